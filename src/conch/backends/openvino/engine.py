"""A compiled model at work: numpy in, numpy out; inputs are used in place, outputs are copied once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from conch.backends.openvino.options import CompilePlan
from conch.backends.signature import ModelTensor, Signature
from conch.backends.views import writable_view
from conch.config.batch_tensors import engine_inputs
from conch.config.schema import ModelConfig
from conch.errors import BackendError, Code, InvalidArgumentError, UnsupportedError
from conch.tensor import DataType

#: OpenVINO's name of an element type -> ours. Not strings: its CPU plugin moves their objects about as if they were
#: numbers, and frees memory that is not its own when a request ends (seen in 2026.4, with a model that passes one on).
_DATATYPES = {
    "f32": DataType.FP32,
    "f64": DataType.FP64,
    "f16": DataType.FP16,
    "bf16": DataType.BF16,
    "boolean": DataType.BOOL,
    **{f"{'u' if d.value.startswith('U') else 'i'}{d.item_bytes * 8}": d for d in DataType if "INT" in d.value},
}


def describe(error: Exception) -> str:
    """The last line of an exception of OpenVINO that says something: the others name its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return " ".join(telling or lines) or type(error).__name__


def read_signature(model: Any, preferred: Collection[str]) -> Signature:
    """The tensors of a model.

    Args:
        preferred: names a tensor should go by where it has several.

    Raises:
        UnsupportedError: a tensor has elements that no datatype stands for.
    """
    return Signature(
        inputs=tuple(_tensor(port, port.node, preferred) for port in model.inputs),
        outputs=tuple(_tensor(port, port.node.input_value(0).node, preferred) for port in model.outputs),
    )


def _tensor(port: Any, node: Any, preferred: Collection[str]) -> ModelTensor:
    name = _name(port, node, preferred)
    type_name = port.get_element_type().get_type_name()
    if type_name not in _DATATYPES:
        raise UnsupportedError(
            f"unsupported element type '{type_name}' of tensor '{name}'; expected one of {', '.join(_DATATYPES)}"
        )
    shape = port.get_partial_shape()
    dims = None if shape.rank.is_dynamic else tuple(-1 if dim.is_dynamic else dim.get_length() for dim in shape)
    return ModelTensor(name, _DATATYPES[type_name], dims)


def _name(port: Any, node: Any, preferred: Collection[str]) -> str:
    """One of a tensor's names: the one asked for, the node's own, or the shortest. Converted models have aliases."""
    names = sorted(port.get_names(), key=lambda name: (len(name), name))
    own = node.get_friendly_name()
    asked = [name for name in (*names, own) if name in preferred]
    if asked:
        return str(asked[0])
    return str(own if own in names or not names else names[0])


def prepare(openvino: Any, model: Any, config: ModelConfig, plan: CompilePlan) -> Signature:
    """Shape a model for its configuration, in place: dynamic or fixed batch, the configuration's own dimensions.

    BF16 inputs and outputs become FP32, which numpy has; the signature still tells BF16.

    Raises:
        InvalidArgumentError: the model cannot be given that shape.
    """
    preferred = {spec.name for spec in engine_inputs(config)} | {spec.name for spec in config.output}
    signature = read_signature(model, preferred)
    shapes = _new_shapes(signature, config, plan)
    if shapes:
        try:
            model.reshape({index: openvino.PartialShape(shape) for index, shape in shapes.items()})
        except Exception as error:  # OpenVINO raises RuntimeError, its converters other things
            raise InvalidArgumentError(
                f"unable to load model '{config.name}': its inputs cannot have the shapes "
                f"{ {signature.inputs[index].name: shape for index, shape in shapes.items()} } that max_batch_size "
                f"{config.max_batch_size} or RESHAPE_IO_LAYERS asks for: {describe(error)}"
            ) from error
    return read_signature(model, preferred)


def _new_shapes(signature: Signature, config: ModelConfig, plan: CompilePlan) -> dict[int, list[int]]:
    """The shapes that inputs get, by position; empty where all may stay as they are."""
    dims = {spec.name: spec.dims if spec.reshape is None else spec.reshape for spec in config.input}
    shapes: dict[int, list[int]] = {}
    for index, tensor in enumerate(signature.inputs):
        if tensor.shape is None or tensor.name not in dims:
            continue
        shape = list(tensor.shape)
        if plan.reshape:
            shape = [*([-1] if config.max_batch_size else []), *dims[tensor.name]]
        if config.max_batch_size and shape:
            shape[0] = plan.fixed_batch or -1
        if tuple(shape) != tensor.shape:
            shapes[index] = shape
    return shapes


def host_types(openvino: Any, model: Any) -> Any:
    """The model with FP32 in place of BF16 at its edges."""
    ports = [(port, True) for port in model.inputs] + [(port, False) for port in model.outputs]
    if all(port.get_element_type() != openvino.Type.bf16 for port, _ in ports):
        return model
    steps = openvino.preprocess.PrePostProcessor(model)
    for index, port in enumerate(model.inputs):
        if port.get_element_type() == openvino.Type.bf16:
            steps.input(index).tensor().set_element_type(openvino.Type.f32)
    for index, port in enumerate(model.outputs):
        if port.get_element_type() == openvino.Type.bf16:
            steps.output(index).tensor().set_element_type(openvino.Type.f32)
    return steps.build()


class OpenVinoEngine:
    """One instance's infer request on a compiled model that other instances use too.

    Args:
        request: an infer request of its own.
        release: gives the share of the compiled model back.
    """

    def __init__(
        self,
        openvino: Any,
        request: Any,
        signature: Signature,
        config: ModelConfig,
        plan: CompilePlan,
        release: Callable[[], None],
    ) -> None:
        self._openvino = openvino
        self._request = request
        self._inputs = {tensor.name: (index, tensor) for index, tensor in enumerate(signature.inputs)}
        self._outputs = {tensor.name: (index, tensor) for index, tensor in enumerate(signature.outputs)}
        self._output_dims = {spec.name: spec.dims for spec in config.output} if not config.max_batch_size else {}
        self._plan = plan
        self.any_thread = plan.device == "CPU"
        self._release = release

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Sequence[np.ndarray]:
        """Run the model; see the port. All outputs are computed, those asked for are copied out."""
        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            raise BackendError(f"the model needs inputs {missing}, which no request of the batch has", Code.INVALID_ARG)
        rows = next((array.shape[0] for array in inputs.values() if array.ndim), 0)
        try:
            for name, array in inputs.items():
                self._bind(name, array)
            self._request.infer()
            return [self._read(name, rows) for name in outputs]
        except RuntimeError as error:
            raise BackendError(f"openvino error: {describe(error)}") from error

    def close(self) -> None:
        """Let go of the infer request and the compiled model."""
        del self._request
        self._release()

    def _bind(self, name: str, array: np.ndarray) -> None:
        index, tensor = self._inputs[name]
        array = self._padded(name, array)
        if tensor.shape == ():
            array = array.reshape(())
        if tensor.datatype is DataType.BF16:
            value = self._openvino.Tensor(_widened(array))
        else:
            value = self._openvino.Tensor(writable_view(array), shared_memory=True)
        self._request.set_input_tensor(index, value)

    def _padded(self, name: str, array: np.ndarray) -> np.ndarray:
        fixed = self._plan.fixed_batch
        if not fixed or array.shape[0] == fixed:
            return array
        if not self._plan.pad_batch:
            raise BackendError(
                f"input '{name}' has batch size {array.shape[0]}, the model takes {fixed} only "
                "(SKIP_OV_DYNAMIC_BATCHSIZE); set the parameter ENABLE_BATCH_PADDING to YES to fill batches up",
                Code.INVALID_ARG,
            )
        padded = np.zeros((fixed, *array.shape[1:]), array.dtype)
        padded[: array.shape[0]] = array
        return padded

    def _read(self, name: str, rows: int) -> np.ndarray:
        """A copy of an output: its memory belongs to the infer request, which overwrites it in its next run."""
        index, tensor = self._outputs[name]
        value = self._request.get_output_tensor(index)
        array = _narrowed(value.data) if tensor.datatype is DataType.BF16 else np.array(value.data)
        if self._plan.fixed_batch and array.ndim:
            array = array[:rows]
        if array.shape == () and name in self._output_dims:
            array = array.reshape([1] * len(self._output_dims[name]))
        return array


def _widened(bits: np.ndarray) -> np.ndarray:
    """BF16 bits as FP32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _narrowed(array: np.ndarray) -> np.ndarray:
    """FP32 that holds BF16 values as BF16 bits (exact: the lower half of each is zero)."""
    return (np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16)
