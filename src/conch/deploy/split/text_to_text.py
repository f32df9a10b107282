"""Splits of models that write a text of another: tokens, the encoder on an engine, generation, texts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from conch.deploy.split.encoder import STATES
from conch.deploy.split.generation import all_files
from conch.deploy.split.heads import Keyword, TokenStates
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, CorePart, Part, PythonPart, Split
from conch.deploy.split.sentencepieces import is_around_sentencepiece, sentencepiece_files
from conch.deploy.split.stages import configuration_files, python_part
from conch.deploy.split.subject import Subject, constants
from conch.deploy.split.text import core
from conch.deploy.split.tokenizer import PartFiles, Tokenization, light_decoder, light_encoder, light_tokenizer
from conch.deploy.split.tokens import MASK, token_specs
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_TOKENS = ("input_ids", MASK)
_NEW_TOKENS = TensorSpec("new_tokens", DataType.INT64, (-1, -1), "the tokens of each returned sequence; -1 is padding")
_TEXTS = ("The wind came in from the sea.", "  two  spaces", "Ünïcödé\n東京", "x" * 300, "")
#: How many languages prove the marks of a tokenizer.
_LANGUAGES = 4
#: Settings of the plan that say what goes before a text, and how the model generates.
_READS = ("prefix", "prefixes", "languages")
_WRITES = (*_READS, "generation", "dtype", "trust_remote_code", "torch_num_threads")


def light(subject: Subject) -> Split:
    """Tokens and texts without transformers; of a tokenizer around sentencepiece, the generation makes the texts."""
    if is_around_sentencepiece(subject.pipe.tokenizer):
        contents: Mapping[str, bytes] = sentencepiece_files(subject.pipe.tokenizer, subject.model.config)
        return _with_encoder(subject, _light_source(subject, contents), subject.plan.outputs, ())
    _, contents = light_tokenizer(subject.pipe.tokenizer, subject.model.config, Tokenization())
    preprocess = _light_source(subject, contents)
    postprocess = python_part(
        subject,
        "postprocess",
        "decode_text.py",
        (_NEW_TOKENS,),
        subject.plan.outputs,
        summary="tokens to texts",
        files=light_decoder(subject.pipe.tokenizer, subject.model.config),
    )
    return _with_encoder(subject, preprocess, (_NEW_TOKENS,), (postprocess,))


def own_tokenizer(subject: Subject) -> Split:
    """The tokenizer is written in Python: transformers runs it, before the generation and after it."""
    files: PartFiles = (_settings(subject, (*_READS, "trust_remote_code")), {})
    summary = "texts to tokens, by the checkpoint's own tokenizer"
    preprocess = _source_part(subject, "encode_source.py", summary, files, configuration_files(subject))
    return _with_encoder(subject, preprocess, subject.plan.outputs, ())


def _with_encoder(
    subject: Subject, preprocess: PythonPart, made: Sequence[TensorSpec], after: Sequence[PythonPart]
) -> Split:
    """The encoder as a network of its own; if it cannot be exported, the generation runs it."""
    plain = Split((preprocess, _target_part(subject, preprocess.outputs, made), *after))
    encoder = text_encoder(subject)
    generate = _target_part(subject, (*preprocess.outputs, *encoder.outputs), made)
    parts: tuple[Part, ...] = (preprocess, encoder, generate, *after)
    return Split(parts, fallback=plain)


def text_encoder(subject: Subject) -> CorePart:
    """The encoder from tokens to one vector each."""
    model = subject.model
    encoder = model.get_encoder()
    network = Keyword(encoder, _TOKENS, constants(encoder))
    size = int(getattr(encoder.config, "hidden_size", -1))
    states = TensorSpec(STATES, DataType.FP32, (-1, size), "what the encoder makes of each token")
    part = core(subject, TokenStates(network, _TOKENS.index(MASK)), _TOKENS, [states])
    return replace(part, suffix="encoder", summary="the encoder")


def _target_part(subject: Subject, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> PythonPart:
    """The model itself, with torch."""
    return python_part(
        subject,
        "generate",
        "generate_target.py",
        inputs,
        outputs,
        summary="the model, generating",
        files=(_settings(subject, _WRITES), {}),
        stage="core",
        checkpoint=all_files(subject),
    )


def _source_part(
    subject: Subject, template: str, summary: str, files: PartFiles, checkpoint: Sequence[Path] = ()
) -> PythonPart:
    """Texts to tokens."""
    return python_part(
        subject,
        "preprocess",
        template,
        [spec for spec in subject.plan.inputs if spec.name == "text"],
        token_specs(_TOKENS),
        summary=summary,
        files=files,
        checkpoint=checkpoint,
    )


def _light_source(subject: Subject, contents: Mapping[str, bytes]) -> PythonPart:
    """Texts to tokens by these files of a tokenizer; of languages, with the tokens that mark them."""
    marks = language_marks(subject.pipe.tokenizer, contents, list(subject.pipe.writing.languages.codes))
    files = {**contents, "languages.json": json.dumps(marks).encode()} if marks else contents
    return _source_part(subject, "tokenize_source.py", "texts to tokens", (_settings(subject, _READS), files))


def language_marks(tokenizer: Any, contents: Mapping[str, bytes], codes: Sequence[str]) -> dict[str, Any]:
    """`languages.json` of `tokenize_source.py`; {} for a tokenizer that marks no languages.

    Raises:
        CannotSplit: texts get other tokens so than transformers gives them.
    """
    if not codes:
        return {}
    own = tokenizer.src_lang
    found: dict[str, list[list[int]]] = {}
    try:
        for code in dict.fromkeys((own, *codes)):
            tokenizer.src_lang = code
            found[code] = [list(tokenizer.prefix_tokens), list(tokenizer.suffix_tokens)]
        encoder, mark = light_encoder(contents), light_module("light_languages").mark
        for code, cut in itertools.product(list(found)[:_LANGUAGES], (None, "longest_first")):
            tokenizer.src_lang = code
            expected = [tokenizer(text, truncation=cut or False, verbose=False)["input_ids"] for text in _TEXTS]
            if mark(encoder, _TEXTS, *found[code], cut) != expected:
                raise CannotSplit(f"{type(tokenizer).__name__} marks texts of {code} otherwise than with tokens")
    finally:
        tokenizer.src_lang = own
    return {"own": own, "marks": found}


def _settings(subject: Subject, names: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    return tuple(each for each in subject.plan.settings if each[0] in names)
