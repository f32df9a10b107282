"""Text while it is generated: pieces of the sequence, the texts that end it, and penalties on what it holds already."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from hf_likelihoods import Likelihoods
from transformers import LogitsProcessor, StoppingCriteria

UNFINISHED = "\ufffd"  # what tokenizers decode part of a character to


class Writer(StoppingCriteria):
    """Tells the text of one sequence as it grows; ends it after a text of `stops`, which is left out.

    A piece is told once it cannot change any more: characters may take several tokens, and what may become one of
    `stops` waits. `rest` is what is left at the end.
    """

    def __init__(
        self,
        tokenizer: Any,
        tell: Callable[[str], None],
        stops: Sequence[str],
        likelihoods: Likelihoods | None = None,
        *,
        skip_special_tokens: bool = True,
    ) -> None:
        self.tokenizer = tokenizer
        self.tell = tell
        self.stops = list(stops)
        self.likelihoods = likelihoods
        self.skip_special_tokens = skip_special_tokens
        self.prompt_tokens = 0
        self.tokens: list[int] = []
        self.stopped = False
        self.held = ""  # text that is complete and may be the beginning of a text of `stops`
        self.begin = self.told = 0  # tokens that are decoded again for what follows, and those whose text is in `held`
        self.length = 0  # characters of the text that were told or held
        self.ends: list[int] = []  # of each token whose text is known, where it ends in the text
        self.finished = False
        self.tokens_told = 0  # those whose likelihoods were told

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens)

    @property
    def last_token(self) -> int | None:
        return self.tokens[-1] if self.tokens else None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        if not self.tokens:
            self.prompt_tokens = input_ids.shape[1] - 1
        self.tokens += input_ids[0, self.prompt_tokens + len(self.tokens) :].tolist()
        if self.likelihoods is not None:
            self.likelihoods.note(self.tokens[-1:], [True])
        self.take(self.new_text(whole=False))
        return torch.full((1,), self.stopped, device=input_ids.device)

    def rest(self) -> str:
        """What was not told, now that nothing follows."""
        if not self.stopped:
            self.held += self.new_text(whole=True)
            self.cut()
        rest, self.held = self.held, ""
        self.finished = True
        return rest

    def logprobs(self) -> str:
        """The likelihoods of the tokens whose text was told since they were last asked for, as JSON; "" unless they are
        wanted."""
        if self.likelihoods is None:
            return ""
        place = self.length - len(self.held)
        # A token that a text of `stops` begins in belongs to the text, one that ends the text does not.
        count = bisect_left(self.ends, place) + 1 if self.finished and place else bisect_right(self.ends, place)
        new = self.likelihoods.entries[0][self.tokens_told : count] if self.likelihoods.entries else []
        self.tokens_told = max(self.tokens_told, count)
        return json.dumps(new, ensure_ascii=False)

    def take(self, text: str) -> None:
        self.held += text
        self.cut()
        if not self.stopped:
            ready = len(self.held) - max((overlap(self.held, stop) for stop in self.stops), default=0)
            if ready:
                piece, self.held = self.held[:ready], self.held[ready:]
                self.tell(piece)

    def cut(self) -> None:
        places = [place for place in (self.held.find(stop) for stop in self.stops) if place >= 0]
        if places:
            self.length -= len(self.held) - min(places)
            self.held, self.stopped = self.held[: min(places)], True

    def new_text(self, *, whole: bool) -> str:
        """The text of the tokens that were not looked at; "" while its last character is unfinished."""
        before, after = self.decode(self.begin, self.told), self.decode(self.begin, len(self.tokens))
        if after.endswith(UNFINISHED) and not whole:
            return ""
        text = after[len(before) :]
        if text:
            self.begin, self.told = self.told, len(self.tokens)
            self.length += len(text)
            self.ends += [self.length] * (self.told - len(self.ends))
        return text

    def decode(self, begin: int, end: int) -> str:
        return str(self.tokenizer.decode(self.tokens[begin:end], skip_special_tokens=self.skip_special_tokens))


def overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


class Penalties(LogitsProcessor):
    """Lowers the logits of tokens that were written: by `presence`, and by `frequency` for each time."""

    def __init__(self, writer: Writer, presence: float, frequency: float) -> None:
        self.writer, self.presence, self.frequency = writer, presence, frequency

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        written = torch.tensor(self.writer.tokens, dtype=torch.long, device=scores.device)
        counts = torch.bincount(written, minlength=scores.shape[-1])[: scores.shape[-1]].to(scores.dtype)
        return scores - self.presence * (counts > 0) - self.frequency * counts


class EverOn(LogitsProcessor):
    """Lets no text end by itself: the tokens that would end it are not written."""

    def __init__(self, ends: Iterable[int]) -> None:
        self.ends = list(ends)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, self.ends] = -float("inf")
        return scores
