"""Requests whose rows have unequal sizes around a network that must not be given padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from conch.deploy.family import libraries_of
from conch.deploy.split.parts import CorePart, Part, PythonPart, Split
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

ROWS_APART = TensorSpec(
    "rows_apart", DataType.BYTES, (1,), "what the network is to be asked beside the request's batch"
)
#: Templates of preprocesses that can set rows apart, and of postprocesses that can bring them back.
_SETTING = frozenset(
    {
        *("process_image.py", "process_crops.py", "process_audio.py", "cut_speech.py", "tokenize_text.py"),
        *("tokenize_table.py", "number_letters.py", "draw_latents.py", "generate.py", "pipeline_preprocess.py"),
    }
)
_BRINGING = frozenset(
    {
        *("classify.py", "pick_tokens.py", "find_objects.py", "measure_depth.py", "find_segments.py", "find_masks.py"),
        *("spell_speech.py", "draw_latents.py", "play_waveform.py", "choose_cells.py", "pipeline_postprocess.py"),
    }
)
#: Settings of the preprocess that every other Python part has too.
_SHARED = ("task", "request_parameters", "default_parameters")


def with_rows_apart(name: str, answered: Sequence[TensorSpec], split: Split) -> Split:
    """The split, whose postprocess asks the network for the rows that have no place in the batch of their request.

    Where no postprocess reads all that the network makes, a part of its own behind the network does.

    Args:
        name: of the ensemble.
        split: its cores with the inputs that their files have.
        answered: the outputs of the ensemble. Those that the network makes then come from the postprocess, which knows
            all rows.
    """
    for core in split.parts:
        if not isinstance(core, CorePart):
            continue
        before = _maker(split, core)
        if before is None:
            continue
        if (after := _reader(split, core)) is not None:
            split = _rewired(name, answered, split, (before, core, after))
        else:
            split = _joined(name, answered, split, (before, core))
    return split


def refuses(part: Part) -> bool:
    """Whether a part refuses requests whose rows have unequal sizes."""
    return isinstance(part, PythonPart) and _has_unpadded(part) and ROWS_APART not in part.outputs


def _has_unpadded(part: PythonPart) -> bool:
    return any(key == "unpadded" for key, _, _ in part.settings)


def _maker(split: Split, core: CorePart) -> PythonPart | None:
    """The preprocess that makes all inputs of the core and must not pad them."""
    taken = {core.input_map.get(spec.name, spec.name) for spec in core.inputs}
    for part in _python_parts(split):
        made = {part.output_map.get(spec.name, spec.name) for spec in part.outputs}
        if part.template in _SETTING and _has_unpadded(part) and taken <= made:
            return part
    return None


def _reader(split: Split, core: CorePart) -> PythonPart | None:
    """The postprocess that reads all outputs of the core."""
    made = {core.output_map.get(spec.name, spec.name) for spec in core.outputs}
    for part in _python_parts(split):
        read = {part.input_map.get(spec.name, spec.name) for spec in part.inputs}
        if part.template in _BRINGING and made <= read:
            return part
    return None


def _python_parts(split: Split) -> Iterator[PythonPart]:
    return (part for part in split.parts if isinstance(part, PythonPart))


def _rewired(
    name: str, answered: Sequence[TensorSpec], split: Split, parts: tuple[PythonPart, CorePart, PythonPart]
) -> Split:
    before, core, after = parts
    moved = {spec.name: spec for spec in answered}
    own = {core.output_map.get(spec.name, spec.name) for spec in core.outputs} & moved.keys()
    renamed = {tensor: f"network_{tensor}" for tensor in own}
    changed = {
        before.suffix: _setting_apart(before, core),
        core.suffix: replace(core, output_map=_renamed(core.output_map, core.outputs, renamed)),
        after.suffix: replace(
            after,
            inputs=(*after.inputs, ROWS_APART),
            outputs=(*(moved[tensor] for tensor in sorted(own)), *after.outputs),
            input_map=_renamed(after.input_map, after.inputs, renamed),
            settings=(*after.settings, *_network_settings(name, core)),
        ),
    }
    return replace(split, parts=tuple(changed.get(part.suffix, part) for part in split.parts))


def _joined(name: str, answered: Sequence[TensorSpec], split: Split, parts: tuple[PythonPart, CorePart]) -> Split:
    """The split with a part behind the network that knows all rows.

    It makes what the network made, and those of the network's inputs that clients see (`attention_mask`).
    """
    before, core = parts
    shown = {spec.name: spec for spec in answered}
    made = {core.output_map.get(spec.name, spec.name): spec for spec in core.outputs}
    taken = {core.input_map.get(spec.name, spec.name): spec for spec in core.inputs}
    taken = {tensor: spec for tensor, spec in taken.items() if tensor in shown}
    renamed = {tensor: f"network_{tensor}" for tensor in (*made, *taken)}
    own = (*made.values(), *taken.values())
    tensors = {spec.name: tensor for tensor, spec in (*made.items(), *taken.items())}
    rows = PythonPart(
        suffix=f"{core.suffix}_rows",
        stage="postprocess",
        summary="rows of unequal size brought together",
        template="join_rows.py",
        libraries=libraries_of("join_rows.py"),
        inputs=(*own, ROWS_APART),
        outputs=own,
        input_map={spec: renamed[tensor] for spec, tensor in tensors.items()},
        output_map={spec: tensor for spec, tensor in tensors.items() if spec != tensor},
        settings=(*(each for each in before.settings if each[0] in _SHARED), *_network_settings(name, core)),
    )
    changed: dict[str, tuple[Part, ...]] = {
        before.suffix: (
            replace(_setting_apart(before, core), output_map=_renamed(before.output_map, before.outputs, renamed)),
        ),
        core.suffix: (
            replace(
                core,
                input_map=_renamed(core.input_map, core.inputs, renamed),
                output_map=_renamed(core.output_map, core.outputs, renamed),
            ),
            rows,
        ),
    }
    return replace(split, parts=tuple(each for part in split.parts for each in changed.get(part.suffix, (part,))))


def _setting_apart(before: PythonPart, core: CorePart) -> PythonPart:
    inputs = " ".join(spec.name for spec in core.inputs)
    return replace(
        before,
        outputs=(*before.outputs, ROWS_APART),
        settings=(*before.settings, ("network_inputs", inputs, "which tensors of a row are set apart")),
    )


def _network_settings(name: str, core: CorePart) -> tuple[tuple[str, str, str], ...]:
    return (
        ("network", f"{name}_{core.suffix}", "who is asked for rows that were set apart"),
        ("network_inputs", " ".join(spec.name for spec in core.inputs), "with which tensors"),
        ("network_outputs", " ".join(spec.name for spec in core.outputs), "and for which"),
    )


def _renamed(names: Mapping[str, str], own: Sequence[TensorSpec], renamed: Mapping[str, str]) -> dict[str, str]:
    """A part's map of its tensors to those of the ensemble, some of which are called otherwise now."""
    tensors = {spec.name: names.get(spec.name, spec.name) for spec in own}
    found = {name: renamed.get(tensor, tensor) for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in found.items() if name != tensor}
