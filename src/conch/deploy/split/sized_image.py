"""Splits of tasks on one image whose answer is in its pixels, if nothing around the network needs transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from conch.deploy.split.generic import Captured
from conch.deploy.split.image import core_part, image_part, network_of
from conch.deploy.split.parts import CannotSplit, Split
from conch.deploy.split.stages import python_part
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

IMAGE_SIZE = TensorSpec("image_size", DataType.INT64, (2,), "height and width of the image as it came")
#: The tensor in which a network is told the subtask in words.
SUBTASK_TOKENS = "task_inputs"
_PIXELS = frozenset({"pixel_values", "pixel_mask"})


def split_around(
    captured: Captured,
    fields: Sequence[str],
    template: str,
    summary: str,
    contents: Mapping[str, bytes],
    words: Mapping[str, bytes] = MappingProxyType({}),
) -> Split:
    """Pixels, the network, and a postprocess that reads the network's `fields` and the size of the image.

    Args:
        template: of the postprocess; `summary` and `contents` are its too.
        words: the file that tells the preprocess the tokens of each subtask; none if the network does not read them.

    Raises:
        CannotSplit: only transformers makes what the network takes.
    """
    subject = captured.subject
    inputs = captured.inputs()
    if others := sorted({spec.name for spec in inputs} - _PIXELS - ({SUBTASK_TOKENS} if words else set())):
        raise CannotSplit(f"the network takes {', '.join(others)}, which only transformers can make")
    preprocess = image_part(subject, (*inputs, IMAGE_SIZE), contents=words)
    core = core_part(network_of(captured.module(fields), inputs, fields, captured.batches()))
    taken = (*core.outputs, IMAGE_SIZE)
    files = ((), contents)
    postprocess = python_part(
        subject, "postprocess", template, taken, subject.plan.outputs, summary=summary, files=files
    )
    return Split((preprocess, core, postprocess))
