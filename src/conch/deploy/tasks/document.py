"""The task table as a page: `python -m conch.deploy.tasks.document > docs/reference/tasks.md`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from conch.deploy.tasks import ALIASES, TASKS
from conch.deploy.tasks.spec import Task, TensorSpec

_HEAD = """\
# Tasks

What `conch deploy` makes of each task: the tensors of the model and the request parameters it takes. This page is
written by `python -m conch.deploy.tasks.document` from the table that deploys.

Shapes are without the batch dimension: a request puts one in front (`text` of shape `[1]` travels as `[2, 1]` for two
texts) unless the model was deployed with `--max-batch-size 0`. -1 is any size; a name is a size the checkpoint knows.
When the samples of one request have results of unequal size, the shorter ones are padded at the end, numbers with 0 and
texts with "".

An image, sound or video travels as its file's bytes, or as base64 text where the protocol knows no bytes (JSON).
`--image-input pixels` makes `image` a UINT8 tensor [height, width, 3] (`pixels-fp32`: FP32, 0 to 255), `--audio-input
samples` makes `audio` an FP32 tensor [samples] beside an optional `sampling_rate` INT32 [1].

Request parameters travel in `parameters` of the request. Text is read as the parameter's kind, since Triton's JSON
takes no fractions: `"threshold": "0.5"`. A list is JSON or comma separated. `int[1..]` is a number of 1 or more,
`softmax|none` one of these texts; whatever else is sent is refused.

`json` holds exactly what the transformers pipeline returns: images and masks as base64 PNG, tensors as nested lists. It
is made only for requests that ask for it or name no outputs. Tasks without it return their whole result as tensors.
"""


def page() -> str:
    """The page as Markdown."""
    lines = [_HEAD]
    for name in sorted(TASKS):
        lines += _section(TASKS[name])
    return "\n".join(lines).rstrip() + "\n"


def _section(task: Task) -> Iterator[str]:
    others = sorted(alias for alias, name in ALIASES.items() if name == task.name)
    yield f"## {task.name}\n"
    yield f"{task.summary[0].upper()}{task.summary[1:]}."
    yield f"Served by `{task.template}`; largest batch {task.max_batch_size}."
    if others:
        yield f"Also called {', '.join(others)}."
    if task.packages:
        yield f"Needs {', '.join(task.packages)} beside torch and transformers."
    yield ""
    yield from _tensors("input", task.inputs)
    yield from _tensors("output", task.outputs)
    if task.parameters:
        yield "| parameter | kind | |\n|---|---|---|"
        yield from (f"| `{each.name}` | {_cell(each.kind)} | {_cell(each.doc)} |" for each in task.parameters)
        yield ""


def _tensors(kind: str, tensors: Sequence[TensorSpec]) -> Iterator[str]:
    yield f"| {kind} | datatype | shape | |\n|---|---|---|---|"
    for each in tensors:
        dims = ", ".join(map(str, each.dims))
        optional = "optional: " if each.optional else f"{each.only_of} alone: " if each.only_of else ""
        yield f"| `{each.name}` | {each.datatype.value} | [{dims}] | {optional}{_cell(each.doc)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
