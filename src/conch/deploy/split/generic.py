"""Splits around a network that the pipeline calls once a sample: the pipeline's own steps, without weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

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
from conch.deploy.split.parts import CannotSplit, Part, PythonPart, Split
from conch.deploy.split.phrases import followed_phrases
from conch.deploy.split.segments import followed_segments
from conch.deploy.split.shifted_windows import followed_windows
from conch.deploy.split.stages import classify_part, configuration_files, python_part, unpadded_setting
from conch.deploy.split.subject import Subject
from conch.deploy.split.traced import Traced
from conch.deploy.split.traced_sizes import followed_sizes
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_Part = TypeVar("_Part", bound=Part)
_CONTEXT = TensorSpec("context", DataType.BYTES, (1,), "what the pipeline hands on beside tensors, as JSON")
#: What networks of any kind do otherwise while they are traced.
_FOLLOWED = (followed_sizes, followed_segments, followed_windows, followed_phrases)
#: Which capture each batch repeats, and how often; the first is exported with.
_BATCHES = ((0, 2), (1, 1), (2, 3))
#: Which captures are the parts of each row of each batch.
_MIXED_BATCHES = (((0, 1), (1, 2)), ((0,),), ((2, 1, 0), (0, 0, 1), (1, 1, 1)))


class Captured:
    """What a pipeline fed its network for samples of several sizes, and what came back.

    Attributes:
        calls: for each sample, one call, or one for each part that the pipeline cuts it into.
        names: of the tensors the network is given.
        cuts: the pipeline may cut a sample into parts.
        takes_parts: the network takes all parts of a sample at once, padded to the largest.
        cut: outputs that the postprocess cuts padding off -> the axis, and the input and its axis of the same length.
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
        self.cut: dict[str, tuple[int, str, int]] = {}
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
        whole = Keyword(self.subject.model, self.names, {"return_dict": True} | others[0])
        network = Fields(Traced(whole, *_FOLLOWED), fields)
        return Parts(network) if self.takes_parts else network

    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensors the network is given."""
        batches = self.batches()
        for name in self.names:
            if any(each[name].ndim != batches[0][name].ndim for each in batches):
                raise CannotSplit(f"the pipeline gives its network {name} of another rank for other samples")
        return tuple(spec_of(name, [each[name] for each in batches], "an input of the network") for name in self.names)

    def batches(self) -> list[dict[str, np.ndarray]]:
        """Inputs of the network in batches of several sizes; the first is exported with."""
        if not self.takes_parts:
            rows = [[[self.calls[number][0]]] * count for number, count in _BATCHES]
        elif any(len(calls) > 1 for calls in self.calls):
            rows = [[self.calls[number]] * count for number, count in _BATCHES]
        else:  # the samples are cut into one part each: parts of several make one that is cut into more
            rows = [[[self.calls[number][0] for number in row] for row in batch] for batch in _MIXED_BATCHES]
        return [self._batch(each) for each in rows]

    def take_parts(self, fields: Sequence[str]) -> None:
        """Let the network take all parts of a sample at once if padding them to one size changes nothing.

        Raises:
            CannotSplit: it does, and the samples are cut into parts of unequal size.
        """
        if not self.cuts:
            return
        natural = self.takes_parts
        if not natural:
            self.cut = self._followed(fields)
        self.takes_parts = True
        mixed = self.calls if natural else [[calls[0] for calls in self.calls]]
        if changed := next((name for parts in mixed for name in self._changed(parts, fields)), ""):
            if natural:
                raise CannotSplit(f"the pipeline cuts its input into unequal parts, and padding changes {changed}")
            self.takes_parts, self.cut = False, {}

    def _changed(self, parts: Sequence[Call], fields: Sequence[str]) -> list[str]:
        """The outputs that are not for each part what they are for it alone."""
        (answer,) = answers(self.module(fields), self.names, [self._batch([parts])])
        found = []
        for name, whole in zip(fields, answer, strict=True):
            for number, each in enumerate(parts):
                alone, got = each.output[name].detach().float().numpy(), whole[:, number]
                if name in self.cut:
                    axis = self.cut[name][0]
                    got = np.take(got, range(alone.shape[axis]), axis) if got.shape[axis] >= alone.shape[axis] else got
                if alone.shape != got.shape or not np.allclose(alone, got, 1e-4, 1e-4):
                    found.append(name)
        return found

    def _followed(self, fields: Sequence[str]) -> dict[str, tuple[int, str, int]]:
        """Outputs of which an axis is as long as one of an input: output -> its axis, the input, its axis."""
        first = [calls[0] for calls in self.calls]
        lengths = {
            tuple(each.tensors[name].shape[axis] for each in first): (name, axis)
            for name in reversed(self.names)
            for axis in range(1, first[0].tensors[name].dim())
        }
        followed = {}
        for name in fields:
            for axis in range(1, first[0].output[name].dim()):
                sizes = tuple(each.output[name].shape[axis] for each in first)
                if len(set(sizes)) > 1 and sizes in lengths:
                    followed[name] = (axis, *lengths[sizes])
        return followed

    def _batch(self, rows: Sequence[Sequence[Call]]) -> dict[str, np.ndarray]:
        """The tensors of samples, each of as many parts, [batch, ..] or [batch, parts, ..], padded at the end."""
        batch = {}
        for name in self.names:
            tensors = [[each.tensors[name] for each in row] for row in rows]
            if any(not tensor.dim() or len(tensor) != 1 for row in tensors for tensor in row):
                raise CannotSplit(f"the pipeline gives its network {name} {list(tensors[0][0].shape)}, no batch of 1")
            arrays = [tensor.detach().cpu().numpy() for row in tensors for tensor in row]
            joined = np.concatenate(_padded(arrays, self._fill(name)))
            batch[name] = joined.reshape(len(rows), -1, *joined.shape[1:]) if self.takes_parts else joined
        return batch

    def _fill(self, name: str) -> int:
        return getattr(self.subject.pipe.tokenizer, "pad_token_id", None) or 0 if name == "input_ids" else 0


def _padded(arrays: Sequence[np.ndarray], fill: float) -> list[np.ndarray]:
    """Arrays padded at the end to the largest of them."""
    shape = [max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
    return [
        np.pad(array, [(0, b - a) for a, b in zip(array.shape, shape, strict=True)], constant_values=fill)
        for array in arrays
    ]


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
    if subject.plan.task.name == "text-to-audio":
        one_voice(subject)
    captured = Captured(subject)
    fields = _fields(captured)
    captured.take_parts(fields)
    if captured.cuts and not captured.takes_parts and subject.plan.task.name != "automatic-speech-recognition":
        raise CannotSplit("the pipeline cuts long inputs into parts of unequal size, and padding changes its answers")
    inputs = captured.inputs()
    again = _tensors_needed_again(captured, fields)
    core = core_part(network_of(captured.module(fields), inputs, fields, captured.batches()))
    answered = {spec.name for spec in subject.plan.outputs}
    renamed = {name: f"network_{name}" for name in (*fields, *captured.names) if name in answered}
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
        input_map={spec.name: renamed[spec.name] for spec in taken if spec.name in renamed},
    )
    preprocess = preprocess_part(subject, inputs, context=True, settings=_parts_setting(captured))
    preprocess = _renamed(preprocess, renamed)
    return Split((preprocess, core, postprocess))


def one_voice(subject: Subject) -> None:
    """Raise CannotSplit if a request chooses who speaks."""
    if getattr(subject.model.config, "num_speakers", 1) > 1:
        raise CannotSplit("who speaks is chosen by each request, and the exported network would know one voice")


def _fields_setting(fields: Sequence[str]) -> tuple[str, str, str]:
    return ("fields", " ".join(fields), "the network's outputs, in its order")


def _parts_setting(captured: Captured) -> tuple[tuple[str, str, str], ...]:
    if not captured.takes_parts:
        return ()
    cut = json.dumps({name: [axis - 1, source, of - 1] for name, (axis, source, of) in captured.cut.items()})
    return (
        ("parts", "true", "the network takes all parts of a sample at once"),
        ("cut", cut, "JSON: output of the network -> its axis that is padded, and the input and axis it is as long as"),
    )


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
                made = [
                    pipe._forward(_hollow(copy.copy(each), hidden or set()), **pipe._forward_params) for each in encoded
                ]
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


def _renamed(part: _Part, names: Mapping[str, str]) -> _Part:
    """The part, of whose tensors some are called otherwise in the ensemble."""
    both = (part.inputs, part.outputs)
    taken, made = ({spec.name: names[spec.name] for spec in specs if spec.name in names} for specs in both)
    return msgspec.structs.replace(part, input_map=taken, output_map=made)
