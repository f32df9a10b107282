"""Splits of models that hear speech frame by frame (CTC): nothing around the network needs transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from conch.deploy.samples import tone
from conch.deploy.split.axes import spec_of
from conch.deploy.split.heads import Fields, Keyword
from conch.deploy.split.image import core_part, network_of
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, DoesNotApply, Split
from conch.deploy.split.speech import light_speech, tensor_names
from conch.deploy.split.stages import python_part, unpadded_setting
from conch.deploy.split.subject import Subject, constants
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_STRIDES = TensorSpec("strides", DataType.INT64, (-1, 3), "samples of each part, and its overlap on both sides")
#: Numbers of the tones of each batch; the first is exported with. Tones of one batch have one length.
_BATCHES = ((0, 2), (1,), (2, 2, 0))
#: Frames of the answers that prove the settings.
_PROBES = (0, 1, 7, 60, 400)


def spelled_speech(subject: Subject) -> Split:
    pipe = subject.pipe
    if pipe.type == "ctc_with_lm":
        raise CannotSplit("its texts are searched with a language model (pyctcdecode), not spelled frame by frame")
    if pipe.type != "ctc":
        raise DoesNotApply("it generates its text")
    spelling = spelling_of(pipe)
    files, processor = light_speech(pipe, subject.model.config)
    names = tensor_names(pipe)
    made = [processor(tone(number, pipe.feature_extractor.sampling_rate))[0] for number in range(3)]
    samples = [{name: np.stack([made[number][name] for number in batch]) for name in names} for batch in _BATCHES]
    inputs = [spec_of(name, [sample[name] for sample in samples], "what the network hears") for name in names]
    module = Fields(Keyword(subject.model, names, constants(subject.model)), ["logits"])
    core = core_part(network_of(module, inputs, ["logits"], samples))
    own, contents = files
    preprocess = python_part(
        subject,
        "preprocess",
        "cut_speech.py",
        subject.plan.inputs,
        (*inputs, _STRIDES),
        summary="sounds to what the network hears",
        files=((*own, *unpadded_setting(inputs)), contents),
    )
    postprocess = python_part(
        subject,
        "postprocess",
        "spell_speech.py",
        (*core.outputs, _STRIDES),
        subject.plan.outputs,
        summary="what the network heard as text",
        files=((), {"spelling.json": json.dumps(spelling, ensure_ascii=False).encode()}),
    )
    return Split((preprocess, core, postprocess))


def spelling_of(pipe: Any) -> dict[str, Any]:
    """How light code makes the texts that the pipeline makes.

    Raises:
        CannotSplit: it does not.
    """
    tokenizer, name = pipe.tokenizer, type(pipe.tokenizer).__name__
    size = max(int(pipe.model.config.vocab_size), len(tokenizer))
    tokens = tokenizer.convert_ids_to_tokens(list(range(size)))
    if not all(isinstance(token, str) for token in tokens) or not hasattr(tokenizer, "word_delimiter_token"):
        raise CannotSplit(f"{name} spells in a way of its own")
    spaces = light_module("light_text").SPACES if getattr(tokenizer, "clean_up_tokenization_spaces", False) else []
    settings = {
        "tokens": tokens,
        "blank": tokenizer.pad_token,
        "delimiter": tokenizer.word_delimiter_token,
        "space": getattr(tokenizer, "replace_word_delimiter_char", " "),
        "lower": bool(getattr(tokenizer, "do_lower_case", False)),
        "replaced": [list(pair) for pair in spaces],
        "frame": int(pipe._align_to),
        "sampling_rate": int(pipe.feature_extractor.sampling_rate),
    }
    _prove(pipe, settings)
    return settings


def _prove(pipe: Any, settings: dict[str, Any]) -> None:
    """Raise CannotSplit unless drawn answers of a network give the texts and times that the pipeline gives."""
    random, name = np.random.default_rng(0), type(pipe.tokenizer).__name__
    for frames in _PROBES:
        heard = _drawn(random, len(settings["tokens"]), frames, settings)
        for parts, strides in ((heard[None], [()]), (np.stack([heard, heard[::-1]]), _strides(frames, settings))):
            for grain in (None, *light_module("light_spelling").GRAINS):
                try:
                    expected = _answer(pipe, parts, strides, grain)
                except Exception as error:  # whatever a tokenizer raises
                    reason = " ".join(str(error).split())
                    raise CannotSplit(f"{name} refuses to spell what a network heard: {reason}") from error
                if expected != spell(settings, parts, strides, grain):
                    raise CannotSplit(f"{name} makes other texts or times of what a network heard than light code")


def _drawn(random: np.random.Generator, tokens: int, frames: int, settings: dict[str, Any]) -> np.ndarray:
    """What a network might hear: every token, words, blanks and repeats."""
    numbers = {token: number for number, token in enumerate(settings["tokens"])}
    often = [numbers[settings[name]] for name in ("blank", "delimiter") if settings[name] in numbers]
    heard = random.integers(0, tokens, frames)
    heard = np.where(random.random(frames) < 0.4, random.choice([*often, tokens - 1], frames), heard)
    return np.repeat(heard, random.integers(1, 4, frames))[:frames]


def _strides(frames: int, settings: dict[str, Any]) -> list[tuple[int, ...]]:
    """Two overlapping parts of so many frames each."""
    samples, overlap = max(frames, 1) * settings["frame"], frames // 5 * settings["frame"]
    return [(samples, 0, overlap), (samples, overlap // 2, 0)]


def _answer(pipe: Any, parts: np.ndarray, strides: Sequence[tuple[int, ...]], grain: str | None) -> dict[str, Any]:
    """What the pipeline's own postprocess makes, as plain numbers."""
    module = type(pipe).postprocess.__globals__
    outputs = []
    for heard, stride in zip(parts, strides, strict=True):
        rescaled = {"stride": module["rescale_stride"]([stride], 1 / pipe._align_to)[0]} if stride else {}
        outputs.append({"tokens": torch.from_numpy(heard.copy())[None], **rescaled})
    result = pipe.postprocess(outputs, return_timestamps=grain)
    chunks = [{**chunk, "timestamp": tuple(map(float, chunk["timestamp"]))} for chunk in result.get("chunks", ())]
    return {**result, "chunks": chunks} if "chunks" in result else dict(result)


def spell(
    settings: dict[str, Any], parts: np.ndarray, strides: Sequence[tuple[int, ...]], grain: str | None
) -> dict[str, Any]:
    """What light code makes of the parts of a sound."""
    light = light_module("light_spelling")
    heard = [
        light.without_overlap(part, np.array(stride or (0, 0, 0)), settings["frame"])
        for part, stride in zip(parts, strides, strict=True)
    ]
    result: dict[str, Any] = light.Speller(settings)(np.concatenate(heard), grain)
    return result
