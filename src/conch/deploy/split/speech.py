"""Splits of models that write down speech: features without transformers, the encoder on an engine, then `generate`."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conch.deploy.extras import require
from conch.deploy.samples import tone
from conch.deploy.split.audio_processor import light_audio_processor
from conch.deploy.split.axes import spec_of
from conch.deploy.split.encoder import encoder_part
from conch.deploy.split.generation import check_generates, generate_part
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, PythonPart, Split
from conch.deploy.split.stages import python_part
from conch.deploy.split.subject import Subject
from conch.deploy.split.tokenizer import PartFiles
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_LENGTHS = TensorSpec("lengths", DataType.INT64, (-1,), "how many frames or samples each part has; 0 is no part")
_STRIDES = TensorSpec("strides", DataType.INT64, (-1, 3), "samples of each part, and its overlap on both sides")
_DOCS = {
    "input_features": "what the model hears: [parts, bands, frames]",
    "input_values": "what the model hears: [parts, samples]",
    "rest": "what a sound is longer than the model's window",
    "attention_mask": "1 for sound, 0 for padding",
}
#: Numbers of the tones of each part of each row of each batch; the first is exported with. Half a minute of sound costs
#: an encoder as much as a page of text: there are no more than prove that both sizes may vary.
_BATCHES = (((0,), (2,)), ((1, 0),), ((2,),))

Arrays = Mapping[str, np.ndarray]


def speech(subject: Subject) -> Split:
    """The generation makes the text itself: it has the tokenizer, and decoding takes a fraction of a millisecond."""
    check_generates(subject)
    files, processor = light_speech(subject.pipe, subject.model.config)
    names = tensor_names(subject.pipe)
    if processor.window:
        names = (*names, "rest")
    made = [processor(tone(number, _rate(processor)))[0] for number in range(3)]
    batches = [[[made[number] for number in row] for row in batch] for batch in _BATCHES]
    samples = [{name: _batched(batch, name) for name in names} for batch in batches]
    inputs = (*(_spec(name, samples, processor.window) for name in names), _LENGTHS, _STRIDES)
    preprocess = _part(subject, inputs, files)
    plain = Split((preprocess, generate_part(subject, inputs, subject.plan.outputs)))
    if not processor.window:
        return plain
    encoder = encoder_part(subject.model, inputs[:1], samples, parts=True)
    if isinstance(encoder, str):
        return Split(plain.parts, (encoder,))
    generate = generate_part(subject, (*inputs, *encoder.outputs), subject.plan.outputs)
    return Split((preprocess, encoder, generate), fallback=plain)


def light_speech(pipe: Any, config: Any) -> tuple[PartFiles, Any]:
    """Settings and contents of a part that runs `process_speech.py`, and what that does.

    Raises:
        CannotSplit: it would make other tensors than the pipeline's preprocess.
    """
    own, contents = light_audio_processor(pipe.feature_extractor)
    described = json.loads(contents["audio_settings.json"])
    arrays = _read_arrays(contents)
    window = described["samples"] // described["hop"] if described.get("samples") else 0
    align_to = int(getattr(config, "inputs_to_logits_ratio", 1))
    audio = light_module("light_audio").AudioProcessor(described, arrays)
    processor = light_module("light_speech").SpeechProcessor(audio, window, align_to)
    _prove(pipe, processor)
    settings = []
    if window:
        settings.append(("window", str(window), "frames that the model hears at once"))
    if align_to != 1:
        settings.append(("align_to", str(align_to), "parts of sounds are multiples of that many samples"))
    return ((*own, *settings), contents), processor


def _prove(pipe: Any, processor: Any) -> None:
    """Raise CannotSplit unless short, long and cut sounds give the tensors that the pipeline makes."""
    rate = _rate(processor)
    longest = processor.window * processor.processor.settings["hop"] if processor.window else 3 * rate
    sound = np.concatenate([tone(number % 3, rate) for number in range(longest // rate + 3)])
    cut = {"chunk_length_s": 0.9}
    for samples, options in ((sound[: rate // 2], {}), (sound[: longest + 1234], {}), (sound[: 2 * rate], cut)):
        made = list(pipe.preprocess(samples, **{**pipe._preprocess_params, **options}))
        got = processor(samples, **options)
        if len(made) != len(got):
            raise CannotSplit(f"the pipeline cuts a sound into {len(made)} parts, light code into {len(got)}")
        for part, own in zip(made, got, strict=True):
            _compare(part, own)


def _compare(part: Mapping[str, Any], got: Arrays) -> None:
    for name in _tensors(part):
        expected = part[name][0].numpy()
        value = got.get(name, np.empty(0))
        if name == "input_features":
            value = np.concatenate([value, got["rest"]], axis=-1)
        if value.shape != expected.shape or not np.allclose(value, expected, rtol=0, atol=1e-3):
            raise CannotSplit(f"the pipeline makes other {name} {list(expected.shape)} than light code")
    if tuple(got["strides"]) != tuple(part.get("stride", (0, 0, 0))):
        raise CannotSplit("the pipeline lets the parts of a sound overlap otherwise than light code")


def _tensors(part: Mapping[str, Any]) -> tuple[str, ...]:
    torch = require("torch")
    return tuple(name for name, value in part.items() if isinstance(value, torch.Tensor) and value.dim() > 1)


def tensor_names(pipe: Any) -> tuple[str, ...]:
    """The tensors that the pipeline's preprocess makes, what the model hears first."""
    (made,) = pipe.preprocess(tone(0, pipe.feature_extractor.sampling_rate), **pipe._preprocess_params)
    names = _tensors(made)
    return tuple(sorted(names, key=lambda name: not name.startswith("input_")))


def _rate(processor: Any) -> int:
    rate: int = processor.processor.sampling_rate
    return rate


def _batched(batch: Sequence[Sequence[Arrays]], name: str) -> np.ndarray:
    """A tensor of rows that have several parts each, padded at the end."""
    rows = [[part[name] for part in row] for row in batch]
    longest = max(part.shape[-1] for row in rows for part in row)
    padded = [[_widened(part, longest) for part in row] for row in rows]
    return np.stack([np.stack(row) for row in padded])


def _widened(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, length - array.shape[-1])])


def _spec(name: str, samples: Sequence[Arrays], window: int) -> TensorSpec:
    """A tensor [parts, .., frames]; only the window's number of frames is known."""
    spec = spec_of(name, [sample[name] for sample in samples], _DOCS[name])
    last = window if window and name == "input_features" else -1
    return TensorSpec(name, spec.datatype, (-1, *spec.dims[1:-1], last), spec.doc)


def _part(subject: Subject, inputs: Sequence[TensorSpec], files: PartFiles) -> PythonPart:
    return python_part(
        subject,
        "preprocess",
        "process_speech.py",
        [spec for spec in subject.plan.inputs if spec.name in ("audio", "sampling_rate")],
        inputs,
        summary="sounds to features",
        files=files,
        stage="preprocess",
    )


def _read_arrays(contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    if "audio_arrays.npz" not in contents:
        return {}
    return dict(np.load(io.BytesIO(contents["audio_arrays.npz"])))
