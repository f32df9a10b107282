"""A session at work: numpy in, numpy out, nothing copied on the CPU."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from conch.backends.signature import ModelTensor, Signature
from conch.config.schema import ModelConfig
from conch.errors import BackendError, Code, ConchError, InternalError, UnsupportedError
from conch.tensor import DataType

#: onnxruntime's name of an element type -> ours.
_DATATYPES = {
    "tensor(float)": DataType.FP32,
    "tensor(double)": DataType.FP64,
    "tensor(float16)": DataType.FP16,
    "tensor(bfloat16)": DataType.BF16,
    "tensor(bool)": DataType.BOOL,
    "tensor(string)": DataType.BYTES,
    **{f"tensor({d.dtype.name})": d for d in DataType if d.value.startswith(("INT", "UINT"))},
}

#: `TensorProto.BFLOAT16`.
_ONNX_BFLOAT16 = 16

_ORT_ERROR = re.compile(r"^\[ONNXRuntimeError\] : (\d+) : \w+ : ", re.MULTILINE)


def describe(error: Exception) -> str:
    """An exception of onnxruntime in Triton's words."""
    text = _ORT_ERROR.sub(lambda found: f"onnx runtime error {found.group(1)}: ", str(error))
    return text if text.startswith("onnx runtime error") else f"onnx runtime error: {text}"


def read_signature(session: Any) -> Signature:
    """The tensors of a loaded model.

    Raises:
        UnsupportedError: one of them is no tensor (a sequence or map), or has elements that no datatype stands for.
    """
    return Signature(
        inputs=tuple(map(_tensor, session.get_inputs())),
        outputs=tuple(map(_tensor, session.get_outputs())),
        optional=tuple(map(_tensor, session.get_overridable_initializers())),
    )


def _tensor(node: Any) -> ModelTensor:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise UnsupportedError(
            f"Unsupported ONNX Type '{node.type}' for I/O '{node.name}', expected one of {', '.join(_DATATYPES)}"
        )
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape)
    return ModelTensor(node.name, datatype, shape)


class OnnxEngine:
    """One instance's use of a session, which other instances may use at the same time.

    Args:
        device: `(type, number)` where inputs and outputs live; ("cpu", 0) runs on numpy's own memory.
        release: gives the share of the session back.
    """

    def __init__(
        self,
        onnxruntime: Any,
        session: Any,
        config: ModelConfig,
        run_options: Any,
        device: tuple[str, int],
        release: Callable[[], None],
    ) -> None:
        self._ort = onnxruntime
        self._session = session
        self._run_options = run_options
        self._device = device
        self.any_thread = device[0] == "cpu"
        self._release = release
        signature = read_signature(session)
        known = signature.inputs + signature.optional
        self._datatypes = {tensor.name: tensor.datatype for tensor in known + signature.outputs}
        self._scalars = {tensor.name for tensor in known if tensor.shape == ()}
        self._output_dims = {spec.name: spec.dims for spec in config.output} if not config.max_batch_size else {}

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Sequence[np.ndarray]:
        """Run the session; see the port."""
        feeds = {name: self._feed(name, array) for name, array in inputs.items()}
        try:
            if self._device[0] != "cpu":
                answers = self._run_bound(feeds, outputs)
            elif any(self._datatypes[name] is DataType.BF16 for name in (*feeds, *outputs)):
                answers = self._run_values(feeds, outputs)
            else:
                answers = self._session.run(outputs, feeds, self._run_options)
        except ConchError:
            raise
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise BackendError(describe(error)) from error
        return [self._shaped(name, array) for name, array in zip(outputs, answers, strict=True)]

    def close(self) -> None:
        """Let go of the session."""
        del self._session
        self._release()

    def _feed(self, name: str, array: np.ndarray) -> np.ndarray:
        if self._datatypes[name] is DataType.BYTES:
            array = _decoded(name, array)
        return array.reshape(()) if name in self._scalars else array

    def _shaped(self, name: str, array: np.ndarray) -> np.ndarray:
        """A scalar has the shape of ones that the configuration gives it."""
        if array.shape == () and name in self._output_dims:
            return array.reshape([1] * len(self._output_dims[name]))
        return array

    def _run_values(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Run with onnxruntime's own values: numpy has no BF16."""
        values = {name: self._value(name, array) for name, array in feeds.items()}
        answers = self._session.run_with_ort_values(outputs, values, self._run_options)
        return [_bits(each) if each.element_type() == _ONNX_BFLOAT16 else each.numpy() for each in answers]

    def _value(self, name: str, array: np.ndarray) -> Any:
        if self._datatypes[name] is DataType.BF16:
            return self._ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ONNX_BFLOAT16)
        return self._ort.OrtValue.ortvalue_from_numpy(array)

    def _run_bound(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Run with inputs and outputs bound to the device, so that nothing is copied in between.

        Outputs come back in one copy at the end. Strings live on the CPU always.
        """
        kind, number = self._device
        binding = self._session.io_binding()
        for name, array in feeds.items():
            datatype = self._datatypes[name]
            if datatype is DataType.BYTES:
                binding.bind_cpu_input(name, array)
            elif datatype is DataType.BF16:
                binding.bind_ortvalue_input(name, self._value(name, array))
            else:
                value = self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), kind, number)
                binding.bind_ortvalue_input(name, value)
        for name in outputs:
            on_cpu = self._datatypes[name] in (DataType.BYTES, DataType.BF16)
            if on_cpu:
                binding.bind_output(name, "cpu")
            else:
                binding.bind_output(name, kind, number)
        self._session.run_with_iobinding(binding, self._run_options)
        values = binding.get_outputs()
        return [_bits(each) if each.element_type() == _ONNX_BFLOAT16 else each.numpy() for each in values]


def _decoded(name: str, array: np.ndarray) -> np.ndarray:
    """BYTES elements as the `str` objects onnxruntime takes."""
    texts = np.empty(array.size, dtype=object)
    try:
        texts[:] = [element.decode() for element in array.ravel()]
    except UnicodeDecodeError as error:
        raise BackendError(
            f"an element of input '{name}' is no UTF-8 text, which strings of ONNX models are: {error}",
            Code.INVALID_ARG,
        ) from error
    return texts.reshape(array.shape)


def _bits(value: Any) -> np.ndarray:
    """The bits of a BF16 value on the CPU, copied since numpy cannot hold on to it."""
    shape = tuple(value.shape())
    if not np.prod(shape):
        return np.empty(shape, np.uint16)
    if value.device_name() != "cpu":
        raise InternalError(f"expected a BF16 output in host memory, got it on '{value.device_name()}'")
    raw = ctypes.string_at(value.data_ptr(), int(np.prod(shape)) * 2)
    return np.frombuffer(raw, np.uint16).reshape(shape)
