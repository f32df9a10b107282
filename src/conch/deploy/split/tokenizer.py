"""From a checkpoint's tokenizer to what `tokenize_text.py` needs, proved to give the same tokens."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from conch.deploy.split.characters import character_tokenizer
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit
from conch.deploy.split.unigram import is_large, unigram_files

#: `PythonPart.settings` and `PythonPart.contents`.
PartFiles = tuple[tuple[tuple[str, str, str], ...], Mapping[str, bytes]]

_PROBES = (
    "The wind came in from the sea.",
    "  Two  spaces, naïve Ünïcödé, 東京, \U0001f41a\u200d, numbers 4711 and a\ttab.\n",
    "",
    "UPPER lower MiXeD don't " * 3,
    "a very long text " * 400,
    "<s> </s> [SEP] [CLS] <|endoftext|> <pad>",
)
#: transformers' mark for "no limit".
_UNLIMITED = 10**20


class Tokenization(msgspec.Struct, frozen=True):
    """How a network reads texts.

    Attributes:
        reads: which inputs make a sample, see `tokenize_text.py`.
        truncation: what is cut unless a request says otherwise: "" for nothing.
        max_length: where, 0 for the tokenizer's own length.
        pad_to: every text is padded to that many tokens, 0 for none.
        template: the sentence that texts or labels are put into unless a request says otherwise.
        special: whether the tokenizer adds its special tokens.
        padding_side: where unequal texts of one request are padded; with `pad_to` it is the tokenizer's own side.
    """

    reads: Literal["text", "texts", "query-texts", "premise-labels", "chunks"] = "text"
    truncation: Literal["", "longest_first", "only_first"] = ""
    max_length: int = 0
    pad_to: int = 0
    template: str = ""
    special: bool = True
    padding_side: Literal["right", "left"] = "right"


def light_tokenizer(tokenizer: Any, config: Any, tokenization: Tokenization) -> PartFiles:
    """Settings and contents of a part that runs `tokenize_text.py`.

    `tokenizer` is the one transformers loads, `config` the model's configuration.

    Raises:
        CannotSplit: the tokenizer is not one of the tokenizers library, or gives other tokens there.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not getattr(tokenizer, "is_fast", False) or backend is None:
        backend = character_tokenizer(tokenizer)
    files, kept = _vocabulary_files(backend)
    written = _settings(tokenizer, config, tokenization) | ({"kept_vocabulary": kept} if kept else {})
    contents = {**files, "tokenizer_settings.json": json.dumps(written, indent=1).encode()}
    _prove(tokenizer, contents, tokenization)
    settings: list[tuple[str, str, str]] = [("reads", tokenization.reads, "which inputs make a sample, see model.py")]
    if tokenization.truncation:
        settings.append(("truncation", tokenization.truncation, "what is cut of texts that are too long"))
    if tokenization.max_length:
        settings.append(("max_length", str(tokenization.max_length), "texts are cut to that many tokens"))
    if tokenization.pad_to:
        settings.append(("pad_to", str(tokenization.pad_to), "texts are padded to that many tokens"))
    if tokenization.template:
        settings.append(("hypothesis_template", tokenization.template, "the sentence each label is put into"))
    if not tokenization.special:
        settings.append(("special_tokens", "false", "the tokenizer adds none"))
    return tuple(settings), contents


def light_decoder(tokenizer: Any, config: Any) -> PartFiles:
    """Contents of a part that makes texts of tokens: `pick_tokens.py`, `classify_tokens.py`, `decode_text.py`.

    Raises:
        CannotSplit: the tokenizer is not one of the tokenizers library, or makes other texts there.
    """
    _, contents = light_tokenizer(tokenizer, config, Tokenization())
    encoder = light_encoder(contents)
    for probe in _PROBES:
        ids = tokenizer(probe, verbose=False)["input_ids"]
        for skip in (True, False):
            if encoder.decode(ids, skip) != tokenizer.decode(ids, skip_special_tokens=skip):
                raise CannotSplit(f"{type(tokenizer).__name__} makes other texts of tokens than its tokenizer.json")
        tokens = tokenizer.convert_ids_to_tokens(ids)
        if encoder.join(tokens) != tokenizer.convert_tokens_to_string(tokens):
            raise CannotSplit(f"{type(tokenizer).__name__} joins tokens in another way than its tokenizer.json")
    return (), contents


def _vocabulary_files(backend: Any) -> tuple[Mapping[str, bytes], str]:
    """What the library knows, without the truncation and padding that the last call left behind; why it is all in
    tokenizer.json although the vocabulary is large, or "".
    """
    content = json.loads(backend.to_str())
    content["truncation"] = content["padding"] = None
    kept = ""
    if is_large(content):
        try:
            return unigram_files(backend, content), ""
        except CannotSplit as error:
            kept = str(error)
    return {"tokenizer.json": json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()}, kept


def _config_of_reader(config: Any) -> Any:
    """The configuration of the network that reads the tokens."""
    if not hasattr(config, "get_text_config"):
        return config
    try:
        return config.get_text_config()
    except ValueError:  # one network reads texts, another writes codes (MusicGen)
        return config.get_text_config(encoder=True)


def _settings(tokenizer: Any, config: Any, tokenization: Tokenization) -> dict[str, Any]:
    """tokenizer_settings.json."""
    longest = int(tokenizer.model_max_length) if tokenizer.model_max_length < _UNLIMITED else None
    text_config = _config_of_reader(config)
    names = ("max_position_embeddings", "max_text_positions")
    positions = next((found for name in names if (found := getattr(text_config, name, None))), None)
    limits = [limit for limit in (positions, longest) if limit and limit > 0]
    limited = bool(positions) and not getattr(text_config, "relative_attention", False)
    return {
        "max_length": longest,
        "limit": min(limits) if limited else None,
        "truncation_side": tokenizer.truncation_side,
        "padding_side": tokenizer.padding_side if tokenization.pad_to else tokenization.padding_side,
        "pad_id": tokenizer.pad_token_id or 0,
        "pad_type_id": tokenizer.pad_token_type_id,
        "clean_up": _cleans_up(tokenizer),
        "unk_id": getattr(tokenizer, "unk_token_id", None),
        "mask_id": getattr(tokenizer, "mask_token_id", None),
        "mask_token": getattr(tokenizer, "mask_token", None) or "",
    }


def _cleans_up(tokenizer: Any) -> bool:
    """Whether decoding removes spaces before punctuation; byte pairs are left alone unless transformers is told to."""
    if not getattr(tokenizer, "is_fast", False) or not getattr(tokenizer, "clean_up_tokenization_spaces", False):
        return False
    pairs = type(tokenizer.backend_tokenizer.model).__name__ == "BPE"
    return not pairs or bool(
        getattr(tokenizer, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    )


def tokenizer_settings(tokenizer: Any, config: Any) -> bytes:
    """tokenizer_settings.json of a part that reads single texts."""
    return json.dumps(_settings(tokenizer, config, Tokenization()), indent=1).encode()


def light_encoder(contents: Mapping[str, bytes]) -> Any:
    """The light encoder of these files."""
    with tempfile.TemporaryDirectory() as directory:
        for name, content in contents.items():
            Path(directory, name).write_bytes(content)
        module = "light_sentencepiece" if "sentencepiece.json" in contents else ""
        tokenizer = light_module(module).SentencePieceTokenizer(Path(directory)) if module else None
        settings = json.loads(contents["tokenizer_settings.json"])
        return light_module("light_text").TextEncoder(Path(directory), settings, tokenizer)


def _prove(tokenizer: Any, contents: Mapping[str, bytes], tokenization: Tokenization) -> None:
    """Raise CannotSplit unless texts and pairs of texts give the tokens that transformers gives."""
    encoder = light_encoder(contents)
    pairs = tokenization.reads in ("query-texts", "premise-labels")
    probes: list[Any] = [(text, _PROBES[0]) for text in _PROBES] if pairs else list(_PROBES)
    options: dict[str, Any] = {
        "truncation": tokenization.truncation or False,
        "add_special_tokens": tokenization.special,
    }
    if tokenization.max_length:
        options["max_length"] = tokenization.max_length
    if tokenization.pad_to:
        options |= {"padding": "max_length", "max_length": tokenization.pad_to}
    for probe in probes:
        arguments = probe if isinstance(probe, tuple) else (probe,)
        try:
            expected = tokenizer(*arguments, verbose=False, **options)
        except ValueError as error:
            raise CannotSplit(f"{type(tokenizer).__name__} refuses its task: {str(error).splitlines()[0]}") from error
        strategy, special = tokenization.truncation or None, tokenization.special
        encodings = encoder.encode([probe], strategy, options.get("max_length"), special=special)
        got = encoder.tensors(encodings, tokenization.pad_to)
        for name, value in expected.items():
            if name in got and not np.array_equal(got[name][0], value):
                text = arguments[0][:30]
                raise CannotSplit(f"{type(tokenizer).__name__} makes other {name} of {text!r} than its tokenizer.json")
            if name not in got:
                raise CannotSplit(f"{type(tokenizer).__name__} makes {name}, which only transformers can make")
