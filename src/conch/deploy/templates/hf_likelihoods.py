"""How likely the tokens of a text were to the model itself: before temperature, penalties and what forbids tokens."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any

import torch

#: Stands for minus infinity, which JSON does not know.
LEAST = -9999.0
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Likelihoods:
    """Watches a model while it generates, as a context.

    Attributes:
        entries: for each sequence, for each of its tokens, what the API of OpenAI tells of it: `token`, `logprob`,
            `bytes`, and as `top_logprobs` the same of the `most` likeliest tokens at that place.
    """

    def __init__(self, model: Any, tokenizer: Any, most: int) -> None:
        self.model, self.most = model, most
        self.bytes_of = TokenBytes(tokenizer)
        self.entries: list[list[dict[str, Any]]] = []
        self.logits = torch.empty(0)

    def __enter__(self) -> Likelihoods:
        self.hook = self.model.register_forward_hook(self.look)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.hook.remove()

    def look(self, module: Any, arguments: Any, output: Any) -> None:
        self.logits = output.logits[:, -1]

    def note(self, tokens: list[int], going_on: list[bool]) -> None:
        """The next token of each sequence; those that do not go on got padding."""
        if not self.entries:
            self.entries = [[] for _ in tokens]
        likelihoods = torch.log_softmax(self.logits.float(), -1)
        best = likelihoods.topk(min(self.most, likelihoods.shape[-1]))
        values, indices = best.values.tolist(), best.indices.tolist()
        for row, token in enumerate(tokens):
            if going_on[row]:
                top = [self.entry(*each) for each in zip(indices[row], values[row], strict=True)]
                own = self.entry(token, likelihoods[row, token].item())
                self.entries[row].append({**own, "top_logprobs": top})

    def entry(self, token: int, likelihood: float) -> dict[str, Any]:
        data = self.bytes_of(token)
        return {"token": data.decode("utf-8", "replace"), "logprob": max(likelihood, LEAST), "bytes": list(data)}


class TokenBytes:
    """The bytes that a token stands for; those of part of a character are no text by themselves."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.whole = frozenset(tokenizer.all_special_ids) | frozenset(getattr(tokenizer, "added_tokens_decoder", ()))
        backend = getattr(tokenizer, "backend_tokenizer", None)
        decoder = "" if backend is None else str(backend.decoder)
        self.byte_level = "ByteLevel" in decoder
        self.sentences = "ByteFallback" in decoder or "Metaspace" in decoder

    def __call__(self, token: int) -> bytes:
        piece = self.tokenizer.convert_ids_to_tokens(token)
        if piece is None:  # the model knows more tokens than its tokenizer
            return b""
        if token in self.whole:
            return str(piece).encode()
        if self.byte_level and all(character in BYTE_OF for character in piece):
            return bytes(BYTE_OF[character] for character in piece)
        if self.sentences:
            part = _BYTE.fullmatch(piece)
            return bytes([int(part[1], 16)]) if part else str(piece).replace("\u2581", " ").encode()
        return str(self.tokenizer.decode([token])).encode()


def byte_characters() -> dict[str, int]:
    """The printable characters that byte-level vocabularies write bytes as."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


BYTE_OF = byte_characters()
