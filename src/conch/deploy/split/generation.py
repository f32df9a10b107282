"""Splits of the tasks whose models generate: the generation is a Python model, what comes before and after it apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from conch.deploy.checkpoint import VOCODER
from conch.deploy.reference import call
from conch.deploy.samples import make_samples
from conch.deploy.split.axes import spec_of
from conch.deploy.split.capture import preprocessed
from conch.deploy.split.encoder import encoder_part, encoder_setting
from conch.deploy.split.generic import preprocess_part, shell_settings
from conch.deploy.split.parts import DoesNotApply, Part, PythonPart, Split
from conch.deploy.split.prompts import decode_part, prompt_part
from conch.deploy.split.stages import configuration_files, python_part
from conch.deploy.split.subject import Subject
from conch.deploy.tasks import TensorSpec
from conch.deploy.tasks.generation import ANSWER_OUTPUTS
from conch.tensor import DataType

_GENERATED = TensorSpec("generated", DataType.BYTES, (1,), "what the pipeline's forward made, as JSON")
_NEW_TOKENS = TensorSpec("new_tokens", DataType.INT64, (-1, -1), "the tokens of each returned sequence; -1 is padding")
#: Tensors that have one row a sample in every model; pictures and sounds may have one row each, and travel as JSON.
_TOKENS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids")
_OF_ONE_MEDIUM = ("automatic-speech-recognition", "document-question-answering")


def text_generation(subject: Subject) -> Split:
    """Prompts and texts without transformers."""
    check_generates(subject)
    preprocess = prompt_part(subject)
    generate = generate_part(subject, preprocess.outputs, (_NEW_TOKENS, *ANSWER_OUTPUTS))
    return Split((preprocess, generate, decode_part(subject, (_NEW_TOKENS,))))


def generation(subject: Subject) -> Split:
    """Preprocess and postprocess are the pipeline's own."""
    check_generates(subject)
    inputs, samples = _tensors(subject)
    preprocess = preprocess_part(subject, inputs, context=True, padded=True)
    told = tuple(spec for spec in subject.plan.outputs if spec in ANSWER_OUTPUTS)
    generate = generate_part(subject, preprocess.outputs, (_GENERATED, *told))
    postprocess = python_part(
        subject,
        "postprocess",
        "pipeline_postprocess.py",
        (_GENERATED,),
        [spec for spec in subject.plan.outputs if spec not in told],
        summary="the pipeline's own postprocess",
        files=(shell_settings(subject), {}),
        checkpoint=configuration_files(subject),
    )
    parts: tuple[Part, ...] = (preprocess, generate, postprocess)
    plain = Split(parts)
    pixels = [spec for spec in inputs if len(spec.dims) == 3 and -1 not in spec.dims]
    if subject.plan.task.name != "document-question-answering" or not pixels:
        return plain
    encoder = encoder_part(subject.model, pixels, samples, parts=False, arguments=("pixel_values",))
    if isinstance(encoder, str):
        return Split(parts, (encoder,))
    made = (*preprocess.outputs, *encoder.outputs)
    generate = generate_part(subject, made, (_GENERATED,), encoder_setting(subject.model, "pixel_values"))
    return Split((preprocess, encoder, generate, postprocess), fallback=plain)


def check_generates(subject: Subject) -> None:
    """Raise DoesNotApply unless the pipeline calls `generate`."""
    if not subject.model.can_generate():
        raise DoesNotApply(f"{type(subject.model).__name__} does not generate")


def generate_part(
    subject: Subject,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    settings: tuple[tuple[str, str, str], ...] = (),
) -> PythonPart:
    """The model itself, with torch."""
    plays = not any(spec.name == "spectrogram" for spec in outputs)
    kept = ("dtype", "torch_num_threads", *(("vocoder",) if plays else ()))
    own = tuple(each for each in subject.plan.settings if each[0] in kept)
    return python_part(
        subject,
        "generate",
        "generate.py",
        inputs,
        outputs,
        summary="the model, generating",
        files=((*shell_settings(subject), *own, *settings), {}),
        stage="core",
        checkpoint=all_files(subject, vocoder=plays),
        beside=subject.checkpoint.beside() if plays else {},
    )


def all_files(subject: Subject, *, vocoder: bool = True) -> tuple[Path, ...]:
    """The checkpoint's files, its weights among them, and those of a vocoder in it."""
    pickle = not subject.checkpoint.has_safetensors()
    trusted = subject.plan.choices.trust_remote_code
    files = subject.checkpoint.files(pickle=pickle, code=trusted)
    return tuple(path for path in files if vocoder or path.parts[0] != VOCODER)


#: Which sample each batch repeats, and how often.
_BATCHES = ((0, 2), (1, 1), (2, 3))


def _tensors(subject: Subject) -> tuple[tuple[TensorSpec, ...], list[dict[str, np.ndarray]]]:
    """The tensors that travel as such from the preprocess to the generation, and batches of several sizes of them."""
    with preprocessed(subject.pipe) as found, torch.inference_mode():
        for sample in make_samples(subject.plan, subject.pipe):
            call(subject.pipe, sample)
    whole = subject.plan.task.name in _OF_ONE_MEDIUM
    names = [
        name
        for name, value in found[0].items()
        if isinstance(value, torch.Tensor) and value.dim() > 1 and (whole or name in _TOKENS)
    ]
    arrays = {name: [each[name].detach().cpu().numpy() for each in found] for name in names}
    batches = [{name: np.repeat(arrays[name][row], count, 0) for name in names} for row, count in _BATCHES]
    return tuple(_open(spec_of(name, arrays[name], "an input of the model")) for name in names), batches


def _open(spec: TensorSpec) -> TensorSpec:
    """Tokens may be of any number, though the samples have as many."""
    return TensorSpec(spec.name, spec.datatype, (-1,), spec.doc) if spec.name in _TOKENS else spec
