"""What a model file says of its tensors: a configuration is completed from it, and checked against it.

The rules and texts are those of Triton's ONNX Runtime backend.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from conch.config import pbtxt
from conch.config.batch_tensors import engine_inputs, target_names
from conch.config.proto import ModelConfigMessage, pb
from conch.config.schema import ModelConfig, ModelInput, ModelOutput
from conch.config.sequences import tensor_names
from conch.errors import InvalidArgumentError
from conch.tensor import DataType

logger = logging.getLogger(__name__)


class ModelTensor(msgspec.Struct, frozen=True):
    """An input or output of a model file: its whole shape, -1 where a dimension is dynamic.

    `shape` None means that the file does not tell even the number of dimensions.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...] | None


class Signature(msgspec.Struct, frozen=True):
    """The tensors of a model file.

    Attributes:
        optional: inputs with a default of their own (ONNX: initializers that a request may override).
    """

    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    optional: tuple[ModelTensor, ...] = ()

    @property
    def supports_batching(self) -> bool:
        """Whether every tensor's first dimension is dynamic."""
        return all(tensor.shape is None or tensor.shape[:1] == (-1,) for tensor in self.inputs + self.outputs)


def is_complete(config: ModelConfig) -> bool:
    """Whether a configuration names inputs and outputs, so that the model need not be asked."""
    return bool(config.input and config.output)


def complete(config: ModelConfig, signature: Signature, default_max_batch_size: int) -> ModelConfig:
    """The configuration with batch size, dynamic batching and the tensors it lacks taken from the model.

    Raises:
        InvalidArgumentError: `max_batch_size` is set and the model does not batch.
    """
    message = pb.ModelConfig()
    message.CopyFrom(config.message)
    _complete_batching(message, signature, default_max_batch_size)
    first = 1 if message.max_batch_size > 0 else 0
    internal = tensor_names(message) | target_names(message)
    if not message.input:
        for tensor in signature.inputs:
            if tensor.name not in internal:
                _add_tensor(message.input, tensor, first)
    if not message.output:
        for tensor in signature.outputs:
            if tensor.name not in internal:
                _add_tensor(message.output, tensor, first)
    return pbtxt.from_message(message)


def _complete_batching(message: ModelConfigMessage, signature: Signature, default_max_batch_size: int) -> None:
    if not signature.supports_batching:
        if message.max_batch_size:
            raise InvalidArgumentError(
                f"autofill failed for model '{message.name}': model does not support batching while non-zero "
                "max_batch_size is specified"
            )
        return
    if not message.max_batch_size:
        message.max_batch_size = default_max_batch_size
        logger.warning(
            "autofilled max_batch_size to %d for model '%s' since batching is supported but no max_batch_size is "
            "specified in model configuration. Must specify max_batch_size to utilize autofill with a larger max batch "
            "size", default_max_batch_size, message.name,
        )  # fmt: skip
    if message.max_batch_size > 1 and message.WhichOneof("scheduling_choice") is None:
        message.dynamic_batching.preferred_batch_size.append(message.max_batch_size)


def _add_tensor(tensors: object, tensor: ModelTensor, first: int) -> None:
    if tensor.shape is None:
        raise InvalidArgumentError(
            f"the model does not tell the number of dimensions of '{tensor.name}': specify inputs and outputs in the "
            "model configuration"
        )
    dims = tensor.shape[first:]
    added = tensors.add(  # type: ignore[attr-defined]  # a protobuf repeated field
        name=tensor.name, data_type=pb.DataType.Value(tensor.datatype.config_name), dims=dims or (1,)
    )
    if not dims and first:
        added.reshape.SetInParent()


def check(config: ModelConfig, signature: Signature) -> None:
    """Compare a complete configuration with the model.

    Raises:
        InvalidArgumentError: they do not fit; the text names the tensor and both sides.
    """
    made = engine_inputs(config)[len(config.input) :]
    required = sum(not spec.optional for spec in config.input) + len(made)
    if required != len(signature.inputs):
        raise InvalidArgumentError(
            f"unable to load model '{config.name}', configuration expects {required} inputs, model provides "
            f"{len(signature.inputs)} ({_listed(signature.inputs)})"
        )
    inputs = {tensor.name: tensor for tensor in signature.inputs + signature.optional}
    for spec in config.input:
        if spec.optional and config.max_batch_size:
            raise InvalidArgumentError(
                f"unable to load model '{config.name}', optional input '{spec.name}' is not supported for models that "
                "support batching"
            )
        _check_tensor(config, spec, inputs, "input")
    for spec in made:
        _check_made(config, spec, inputs)
    outputs = {tensor.name: tensor for tensor in signature.outputs}
    scattered = {name for entry in config.batch_output for name in entry.target_name}
    for output in config.output:
        if output.name in scattered:
            _found(config, output, outputs, "output")  # the model's shape is that of the batch, not of one request
        else:
            _check_tensor(config, output, outputs, "output")


def _check_made(config: ModelConfig, spec: ModelInput, tensors: Mapping[str, ModelTensor]) -> None:
    """An input made of a batch: its sizes are known with each batch only."""
    tensor = _found(config, spec, tensors, "input")
    if tensor.shape is not None and len(tensor.shape) != len(spec.dims):
        raise InvalidArgumentError(
            f"unable to load model '{config.name}', batch input '{spec.name}' has {len(spec.dims)} dimension(s), the "
            f"model expects shape {_shape(tensor.shape)}"
        )


def _found(
    config: ModelConfig, spec: ModelInput | ModelOutput, tensors: Mapping[str, ModelTensor], direction: str
) -> ModelTensor:
    """The model's tensor of that name and datatype."""
    tensor = tensors.get(spec.name)
    if tensor is None:
        raise InvalidArgumentError(
            f"unable to load model '{config.name}': unexpected inference {direction} '{spec.name}', allowed "
            f"{direction}s are: {', '.join(tensors)}"
        )
    if tensor.datatype is not spec.data_type:
        raise InvalidArgumentError(
            f"unable to load model '{config.name}', configuration expects datatype {spec.data_type.config_name} for "
            f"{direction} '{spec.name}', model provides {tensor.datatype.config_name}"
        )
    return tensor


def _check_tensor(
    config: ModelConfig, spec: ModelInput | ModelOutput, tensors: Mapping[str, ModelTensor], direction: str
) -> None:
    tensor = _found(config, spec, tensors, direction)
    dims = spec.dims if spec.reshape is None else spec.reshape
    if isinstance(spec, ModelInput) and spec.allow_ragged_batch and config.max_batch_size:
        if tensor.shape is not None and tensor.shape != (-1,):
            raise InvalidArgumentError(
                f"unable to load model '{config.name}', configuration expects model provides input with shape [-1] for "
                f"ragged input '{spec.name}', model provides {_shape(tensor.shape)}"
            )
    elif tensor.shape == () and direction == "output":
        return  # a scalar, or of unknown rank: the file does not tell which
    elif tensor.shape == () and not config.max_batch_size:
        if any(dim != 1 for dim in dims):
            raise InvalidArgumentError(
                f"unable to load model '{config.name}', scalar tensor '{spec.name}', should only provide 1 in the "
                "model configuration when the model doesn't support batching. Model configuration provided: "
                f"{_shape(dims)}."
            )
    elif tensor.shape is not None:
        _check_dims(config, spec.name, tensor.shape, dims, exact=direction == "input")


def _check_dims(config: ModelConfig, name: str, shape: Sequence[int], dims: Sequence[int], *, exact: bool) -> None:
    """`exact` refuses a -1 in the configuration where the model is fixed: it promises sizes the model does not take."""
    described = f"model '{config.name}', tensor '{name}'"
    full = tuple(dims)
    note = ""
    if config.max_batch_size:
        if tuple(shape[:1]) != (-1,):
            raise InvalidArgumentError(
                f"{described}: for the model to support batching the shape should have at least 1 dimension and the "
                f"first dimension must be -1; but shape expected by the model is {_shape(shape)}"
            )
        full = (-1, *dims)
        note = (
            "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making "
            "complete "
        )
    fits = len(shape) == len(full) and all(
        dim in (-1, size) or (size == -1 and not exact) for dim, size in zip(shape, full, strict=True)
    )
    if not fits:
        raise InvalidArgumentError(
            f"{described}: the model expects {len(shape)} dimensions (shape {_shape(shape)}) but the model "
            f"configuration specifies {len(full)} dimensions ({note}shape {_shape(full)})"
        )


def _shape(shape: Sequence[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _listed(tensors: Iterable[ModelTensor]) -> str:
    return ", ".join(f"'{tensor.name}'" for tensor in tensors)
