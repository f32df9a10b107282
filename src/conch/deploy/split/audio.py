"""Splits of the tasks on sounds whose preprocess needs no transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from conch.deploy.samples import tone
from conch.deploy.split.audio_processor import light_audio_processor
from conch.deploy.split.axes import spec_of
from conch.deploy.split.image import classifying_core
from conch.deploy.split.parts import PythonPart, Split
from conch.deploy.split.stages import classify_part, python_part, unpadded_setting
from conch.deploy.split.subject import Subject, model_inputs
from conch.deploy.tasks import TensorSpec

#: Numbers of the tones of each batch; the first is exported with. Tones of one batch have one length.
_BATCHES = ((0, 2), (1,), (2, 2, 0))


def sound_inputs(extractor: Any, call: Any) -> tuple[tuple[TensorSpec, ...], list[dict[str, np.ndarray]]]:
    """The tensors a network of sounds takes, and samples of them."""
    names = model_inputs(extractor.model_input_names, call)
    rate = extractor.sampling_rate
    samples = []
    for batch in _BATCHES:
        rows = [extractor([tone(number, rate)], sampling_rate=rate, return_tensors="np") for number in batch]
        names = tuple(name for name in names if name in rows[0])
        samples.append({name: np.concatenate([_typed(row[name]) for row in rows]) for name in names})
    specs = tuple(spec_of(name, [each[name] for each in samples], "what the network hears") for name in names)
    return specs, samples


def _typed(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def sound_part(
    subject: Subject,
    inputs: Sequence[TensorSpec],
    *,
    suffix: str = "preprocess",
    settings: Sequence[tuple[str, str, str]] = (),
) -> PythonPart:
    """Sounds to features, without transformers.

    Raises:
        CannotSplit: only transformers' own extractor makes these features.
    """
    own, contents = light_audio_processor(subject.pipe.feature_extractor)
    return python_part(
        subject,
        suffix,
        "process_audio.py",
        [spec for spec in subject.plan.inputs if spec.name in ("audio", "sampling_rate")],
        inputs,
        summary="sounds to features",
        files=((*own, *unpadded_setting(inputs), *settings), contents),
        stage="preprocess",
    )


def audio_classification(subject: Subject) -> Split:
    inputs, samples = sound_inputs(subject.pipe.feature_extractor, subject.model)
    core, settings = classifying_core(subject, inputs, samples)
    preprocess = sound_part(subject, core.inputs, settings=settings)
    return Split((preprocess, core, classify_part(subject, core.outputs)))
