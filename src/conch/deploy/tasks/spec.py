"""What one task looks like on the wire: tensors, request parameters, and the template that serves it."""

from __future__ import annotations

import msgspec

from conch.tensor import DataType

#: A dimension: a size, -1 for any, or the name of a size that the checkpoint knows (see `conch.deploy.checkpoint`).
Dimension = int | str

#: Tensor names whose form `--image-input` and `--audio-input` choose.
IMAGE_INPUTS = ("image",)
AUDIO_INPUTS = ("audio",)


class TensorSpec(msgspec.Struct, frozen=True):
    """An input or output without its batch dimension.

    Attributes:
        name: its name in config.pbtxt.
        datatype: element type.
        dims: shape without the batch dimension.
        doc: what it holds, a phrase.
        optional: a request may leave it out (inputs), or some checkpoints have none (outputs).
        only_of: an input that only models of this class have; "" for all.
    """

    name: str
    datatype: DataType
    dims: tuple[Dimension, ...]
    doc: str
    optional: bool = False
    only_of: str = ""


class ParameterSpec(msgspec.Struct, frozen=True):
    """A request parameter.

    `kind` is int, float, bool, str, list (JSON or comma separated), texts (one, or a JSON list), json, object (JSON),
    template (text with one {}), generation (JSON for `generate`) or any; int within bounds, int[1..] or int[0..20]; or
    the texts it may be, softmax|none.
    """

    name: str
    kind: str
    doc: str


class Task(msgspec.Struct, frozen=True):
    """One task.

    Attributes:
        name: its name on the HuggingFace hub.
        summary: what it does, a phrase.
        template: the file of `conch.deploy.templates` that becomes `model.py`.
        libraries: the files beside it that it imports.
        inputs, outputs, parameters: the wire.
        max_batch_size: default of `--max-batch-size`.
        pipeline: the task name for `transformers.pipeline`; "" where there is no such pipeline.
        packages: what must be installed beside torch, transformers, numpy and safetensors.
    """

    name: str
    summary: str
    template: str
    libraries: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: tuple[ParameterSpec, ...] = ()
    max_batch_size: int = 32
    pipeline: str = ""
    packages: tuple[str, ...] = ()


def text_input(name: str, doc: str, *, many: bool = False, optional: bool = False) -> TensorSpec:
    """One text, or any number of texts."""
    return TensorSpec(name, DataType.BYTES, (-1 if many else 1,), doc, optional)


JSON_OUTPUT = TensorSpec("json", DataType.BYTES, (1,), "what the transformers pipeline returned, as JSON")
IMAGE = TensorSpec("image", DataType.BYTES, (1,), "an encoded image (JPEG, PNG, WebP, ...)")
AUDIO = TensorSpec("audio", DataType.BYTES, (1,), "an encoded sound (WAV, FLAC, OGG, MP3)")
TOP_K = ParameterSpec("top_k", "int[1..]", "how many results `json` lists")
FUNCTION_TO_APPLY = ParameterSpec("function_to_apply", "softmax|sigmoid|none", "instead of the model's own")
TRUNCATION = ParameterSpec("truncation", "bool", "cut texts that are too long instead of refusing them")
HYPOTHESIS_TEMPLATE = ParameterSpec("hypothesis_template", "template", 'the sentence each label is put into at "{}"')
