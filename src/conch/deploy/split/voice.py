"""Splits of voices that read letter by letter (VITS): nothing around the network needs transformers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from conch.deploy.samples import SENTENCES
from conch.deploy.split.generic import Captured, one_voice
from conch.deploy.split.image import core_part, network_of
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, Split
from conch.deploy.split.stages import python_part, unpadded_setting
from conch.deploy.split.subject import Subject

_FIELDS = ("waveform",)
_PROBES = (
    *SENTENCES,
    "  UPPER lower MiXeD don't, naïve Ünïcödé; ț 東京 \U0001f41a 4711 \t a tab.\n",
    "",
    "12?!",
    "<unk> <pad> </s> a",
)


def text_to_audio(subject: Subject) -> Split:
    one_voice(subject)
    pipe = subject.pipe
    if pipe.vocoder is not None or pipe.processor is not None:
        raise CannotSplit(f"{type(subject.model).__name__} needs more around it than letters and a waveform")
    contents = {"letters.json": json.dumps(letters_of(pipe.tokenizer), ensure_ascii=False).encode()}
    captured = Captured(subject)
    inputs = captured.inputs()
    if others := sorted(set(captured.names) - {"input_ids", "attention_mask"}):
        raise CannotSplit(f"the network takes {', '.join(others)}, which only transformers can make")
    core = core_part(network_of(captured.module(_FIELDS), inputs, _FIELDS, captured.batches()))
    preprocess = python_part(
        subject,
        "preprocess",
        "number_letters.py",
        subject.plan.inputs,
        inputs,
        summary="texts to the numbers of their letters",
        files=(unpadded_setting(inputs), contents),
    )
    rate = ("sampling_rate", str(int(pipe.sampling_rate)), "samples a second")
    postprocess = python_part(
        subject,
        "postprocess",
        "play_waveform.py",
        core.outputs,
        subject.plan.outputs,
        summary="the sound",
        files=((rate,), {}),
    )
    return Split((preprocess, core, postprocess))


def letters_of(tokenizer: Any) -> dict[str, Any]:
    """How light code makes the numbers that the tokenizer makes.

    Raises:
        CannotSplit: it does not.
    """
    name = type(tokenizer).__name__
    if not all(hasattr(tokenizer, each) for each in ("add_blank", "phonemize", "is_uroman", "encoder")):
        raise CannotSplit(f"{name} does not read letter by letter")
    for needed, what in (("phonemize", "makes phonemes of texts"), ("is_uroman", "romanizes texts")):
        if getattr(tokenizer, needed):
            raise CannotSplit(f"{name} {what}, which only transformers can do")
    settings = {
        "letters": dict(tokenizer.encoder),
        "special": list(tokenizer.added_tokens_encoder),
        "unknown": tokenizer.unk_token_id,
        "normalize": bool(tokenizer.normalize),
        "blank": bool(tokenizer.add_blank),
        "replaced": [["ț", "ţ"]] if tokenizer.language == "ron" else [],
    }
    letters = light_module("light_letters").Letters(settings)
    for text in _PROBES:
        if not np.array_equal(letters(text), np.array(tokenizer(text)["input_ids"], np.int64)):
            raise CannotSplit(f"{name} makes other numbers of {text[:30]!r} than light code")
    return settings
