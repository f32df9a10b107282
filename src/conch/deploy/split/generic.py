"""Splits around a network that the pipeline calls once a sample: the pipeline's own steps, without weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch

from conch.deploy.extras import require
from conch.deploy.reference import call
from conch.deploy.samples import Sample, make_samples
from conch.deploy.split.axes import answers, spec_of
from conch.deploy.split.capture import Call, preprocessed, recorded
from conch.deploy.split.heads import Fields, Keyword, Parts
from conch.deploy.split.image import core_part, network_of
from conch.deploy.split.parts import CannotSplit, CorePart, PythonPart, Split
from conch.deploy.split.stages import classify_part, configuration_files, python_part, unpadded_setting
from conch.deploy.split.subject import Subject
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_CONTEXT = TensorSpec("context", DataType.BYTES, (1,), "what the pipeline hands on beside tensors, as JSON")
#: Which capture each batch repeats, and how often; the first is exported with.
_BATCHES = ((0, 2), (1, 1), (2, 3))


class Captured:
    """What a pipeline fed its network for samples of several sizes, and what came back.

    Attributes:
        calls: for each sample, one call, or one for each part that the pipeline cuts it into.
        names: of the tensors the network is given.
        cuts: the pipeline may cut a sample into parts.
        takes_parts: the network takes all parts of a sample at once.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.samples: Sequence[Sample] = make_samples(subject.plan, subject.pipe)
        self.cuts = isinstance(subject.pipe, require("transformers.pipelines.base").ChunkPipeline)
        self.calls: list[list[Call]] = []
        self.encoded: list[list[Any]] = []
        for sample in self.samples:
            with recorded(subject.model) as calls, preprocessed(subject.pipe) as made, torch.inference_mode():
                call(subject.pipe, sample)
            if len(calls) != len(made) or not calls:
                raise CannotSplit(f"the pipeline calls its network {len(calls)} times for {len(made)} inputs")
            self.calls.append(calls)
            self.encoded.append(made)
        self.takes_parts = any(len(calls) > 1 for calls in self.calls)
        if self.takes_parts and not self.cuts:
            raise CannotSplit("the pipeline calls its network more than once for one sample")
        self.names = tuple(self.calls[0][0].tensors)
        if any(set(each.tensors) != set(self.names) for calls in self.calls for each in calls):
            raise CannotSplit("the pipeline gives its network other tensors for other samples")

    def module(self, fields: Sequence[str]) -> torch.nn.Module:
        """The network's outputs called `fields`, the arguments that are no tensors filled in."""
        others = [
            {name: value for name, value in each.arguments.items() if name not in self.names}
            for calls in self.calls
            for each in calls
        ]
        if any(repr(each) != repr(others[0]) for each in others):
            raise CannotSplit("the pipeline gives its network other arguments for other samples")
        network = Fields(Keyword(self.subject.model, self.names, {"return_dict": True} | others[0]), fields)
        return Parts(network) if self.takes_parts else network

    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensors the network is given."""
        arrays = [self._arrays(calls) for calls in self.calls]
        for name in self.names:
            if any(each[name].ndim != arrays[0][name].ndim for each in arrays):
                raise CannotSplit(f"the pipeline gives its network {name} of another rank for other samples")
        return tuple(spec_of(name, [each[name] for each in arrays], "an input of the network") for name in self.names)

    def batches(self) -> list[dict[str, np.ndarray]]:
        """The same as batches of several sizes."""
        return [
            {name: np.concatenate([array] * count) for name, array in self._arrays(self.calls[number]).items()}
            for number, count in _BATCHES
        ]

    def _arrays(self, calls: Sequence[Call]) -> dict[str, np.ndarray]:
        """The tensors of one sample, [1, ..] or [1, parts, ..]."""
        arrays = {}
        for name in self.names:
            tensors = [each.tensors[name] for each in calls]
            if any(not tensor.dim() or len(tensor) != 1 for tensor in tensors):
                raise CannotSplit(f"the pipeline gives its network {name} {list(tensors[0].shape)}, no batch of 1")
            parts = [tensor.detach().cpu().numpy() for tensor in tensors]
            arrays[name] = _stacked(parts, self._fill(name)) if self.takes_parts else parts[0]
        return arrays

    def _fill(self, name: str) -> int:
        return getattr(self.subject.pipe.tokenizer, "pad_token_id", None) or 0 if name == "input_ids" else 0

    def check_padding(self, fields: Sequence[str]) -> None:
        """Raise CannotSplit if parts of unequal size, padded to the largest, are answered otherwise than alone."""
        module = self.module(fields)
        for calls in self.calls:
            if len({tuple(tensor.shape for tensor in each.tensors.values()) for each in calls}) == 1:
                continue
            (answer,) = answers(module, self.names, [self._arrays(calls)])
            for name, whole in zip(fields, answer, strict=True):
                for part, each in enumerate(calls):
                    alone = each.output[name].detach().float().numpy()
                    if alone.shape != whole[:, part].shape or not np.allclose(alone, whole[:, part], 1e-4, 1e-4):
                        raise CannotSplit(f"the pipeline cuts its input into unequal parts, and padding changes {name}")


def _stacked(parts: Sequence[np.ndarray], fill: float) -> np.ndarray:
    """Arrays [1, ..] as one [1, parts, ..], padded at the end to the largest."""
    shape = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    padded = [
        np.pad(part, [(0, b - a) for a, b in zip(part.shape, shape, strict=True)], constant_values=fill)
        for part in parts
    ]
    return np.stack(padded, axis=1)


def preprocess_part(
    subject: Subject,
    inputs: Sequence[TensorSpec],
    *,
    context: bool,
    padded: bool = False,
    settings: Sequence[tuple[str, str, str]] = (),
) -> PythonPart:
    """The pipeline's own preprocess.

    Args:
        context: also make what the pipeline hands on beside tensors.
        padded: whoever reads the tensors knows their sizes, so the rows of a request may be padded.
    """
    unpadded = () if padded else unpadded_setting(inputs)
    outputs = (*inputs, _CONTEXT) if context else tuple(inputs)
    return python_part(
        subject,
        "preprocess",
        "pipeline_preprocess.py",
        subject.plan.inputs,
        outputs,
        summary="the pipeline's own preprocess",
        files=((*shell_settings(subject), *unpadded, *settings), {}),
        checkpoint=configuration_files(subject),
    )


def shell_settings(subject: Subject) -> tuple[tuple[str, str, str], ...]:
    return tuple(each for each in subject.plan.settings if each[0] in ("trust_remote_code", "subfolder"))


def classification(subject: Subject) -> Split:
    """Classes of images, videos and sounds that only transformers can prepare."""
    captured = Captured(subject)
    inputs = captured.inputs()
    network = network_of(captured.module(["logits"]), inputs, ["logits"], captured.batches())
    core = core_part(network)
    return Split((preprocess_part(subject, inputs, context=False), core, classify_part(subject, core.outputs)))


def whole_pipeline(subject: Subject) -> Split:
    """Any pipeline: what it hands on beside tensors travels around the network."""
    captured = Captured(subject)
    inputs = captured.inputs()
    fields = _fields(captured)
    captured.check_padding(fields)
    again = _tensors_needed_again(captured, fields)
    core = core_part(network_of(captured.module(fields), inputs, fields, captured.batches()))
    answered = {spec.name for spec in subject.plan.outputs}
    renamed = {name: f"network_{name}" for name in fields if name in answered}
    core = _renamed(core, renamed)
    taken = (_CONTEXT, *core.outputs, *(spec for spec in inputs if spec.name in again))
    postprocess = python_part(
        subject,
        "postprocess",
        "pipeline_postprocess.py",
        taken,
        subject.plan.outputs,
        summary="the pipeline's own postprocess",
        files=((*shell_settings(subject), *_parts_setting(captured), _fields_setting(fields)), {}),
        checkpoint=configuration_files(subject),
        input_map=renamed,
    )
    preprocess = preprocess_part(subject, inputs, context=True, settings=_parts_setting(captured))
    return Split((preprocess, core, postprocess))


def _fields_setting(fields: Sequence[str]) -> tuple[str, str, str]:
    return ("fields", " ".join(fields), "the network's outputs, in its order")


def _parts_setting(captured: Captured) -> tuple[tuple[str, str, str], ...]:
    return (("parts", "true", "the network takes all parts of a sample at once"),) if captured.takes_parts else ()


def _fields(captured: Captured) -> list[str]:
    """The tensors of the network's output that the postprocess cannot do without, in the output's order."""
    kept = [name for name, value in captured.calls[0][0].output.items() if isinstance(value, torch.Tensor)]
    whole = _replayed(captured, kept)
    if None in whole:
        raise CannotSplit("the postprocess reads more of the network's output than tensors")
    for name in tuple(kept):
        fewer = [each for each in kept if each != name]
        if fewer and _replayed(captured, fewer) == whole:
            kept = fewer
    return kept


def _tensors_needed_again(captured: Captured, fields: Sequence[str]) -> list[str]:
    """The network's inputs whose values the postprocess reads."""
    whole = _replayed(captured, fields)
    needed = list(captured.names)
    for name in captured.names:
        if _replayed(captured, fields, set(captured.names) - set(needed) | {name}) == whole:
            needed.remove(name)
    return needed


def _replayed(captured: Captured, fields: Sequence[str], hidden: set[str] | None = None) -> list[str | None]:
    """What the postprocess makes of each sample with the network's answer cut down to `fields`; None if it cannot.

    Args:
        hidden: tensors of the preprocess that have no values.
    """
    pipe, model = captured.subject.pipe, captured.subject.model
    results: list[str | None] = []
    for calls, encoded in zip(captured.calls, captured.encoded, strict=True):
        outputs = iter([_cut(each.output, fields) for each in calls])
        forward = model.forward
        model.forward = lambda *arguments, outputs=outputs, **keywords: next(outputs)
        try:
            with torch.inference_mode():
                made = [pipe._forward(_hollow(copy.copy(each), hidden or set())) for each in encoded]
                result = pipe.postprocess(made if captured.cuts else made[0], **pipe._postprocess_params)
            results.append(repr(_comparable(result)))
        except Exception:  # whatever a postprocess raises that lacks what it reads
            results.append(None)
        finally:
            model.forward = forward
    return results


def _cut(output: Any, fields: Sequence[str]) -> Any:
    return output.__class__(**{name: output[name].clone() for name in fields})


def _hollow(value: Any, names: set[str]) -> Any:
    """What a preprocess returned, the tensors called `names` without their values."""
    if isinstance(value, Mapping):
        kind: Any = type(value)
        pairs = {
            key: torch.empty(each.shape, dtype=each.dtype, device="meta")
            if key in names and isinstance(each, torch.Tensor)
            else _hollow(each, names)
            for key, each in value.items()
        }
        return kind(pairs)
    return value


def _comparable(value: Any) -> Any:
    """A pipeline's result as what `repr` shows in full."""
    if isinstance(value, Mapping):
        return {key: _comparable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_comparable(each) for each in value]
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return np.asarray(value).tolist() if isinstance(value, np.ndarray) or hasattr(value, "save") else value


def _renamed(core: CorePart, names: Mapping[str, str]) -> CorePart:
    """The core with outputs that are called otherwise in the ensemble."""
    return msgspec.structs.replace(core, output_map=names)
