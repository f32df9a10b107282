"""Tensors as programs of the API have them: over DLPack, or as arrays of strings and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from conch.errors import InvalidArgumentError, UnsupportedError
from conch.inprocess.tensors import datatype_of, to_array
from conch.tensor import DataType
from conch.tensor import Tensor as CoreTensor
from conch.tritonserver.enums import DLDeviceType, MemoryType
from conch.tritonserver.memory import MemoryBuffer

#: A device as the API names it: "cpu", "gpu:0", a memory type, or one of these or of DLPack's with a number.
DeviceOrMemoryType = str | MemoryType | tuple[MemoryType | DLDeviceType, int]


class Tensor:
    """A tensor in memory of the host.

    Args:
        memory_buffer: its elements, in the wire's form for BYTES; kept with the tensor, not copied.

    Attributes:
        core: the tensor as conch has it.

    Raises:
        InvalidArgumentError: the memory does not hold that shape.
        UnsupportedError: it is not memory of the host.
    """

    def __init__(self, data_type: DataType, shape: Sequence[int], memory_buffer: MemoryBuffer) -> None:
        core = CoreTensor("", data_type, tuple(shape), memory_buffer.view())
        wanted = core.element_count * data_type.item_bytes
        if data_type is not DataType.BYTES and wanted != core.byte_size:
            raise InvalidArgumentError(
                f"{data_type.value} of shape {list(shape)} has {wanted} bytes, the memory {core.byte_size}"
            )
        self.core = core

    @classmethod
    def of_core(cls, core: CoreTensor) -> Tensor:
        """The tensor of conch's in the form of this API."""
        tensor = cls.__new__(cls)
        tensor.core = core
        return tensor

    @classmethod
    def from_dlpack(cls, obj: Any) -> Tensor:
        """A tensor over the memory of an array or a torch tensor on the CPU.

        Raises:
            InvalidArgumentError: it is none, or of elements that no tensor has.
        """
        return cls._of(obj)

    @classmethod
    def from_bytes_array(cls, bytes_array: Any) -> Tensor:
        """A BYTES tensor of texts or bytes.

        Raises:
            InvalidArgumentError: there is something else among them.
        """
        tensor = cls._of(bytes_array)
        if tensor.data_type is not DataType.BYTES:
            raise InvalidArgumentError(f"expected texts or bytes, got elements of {tensor.data_type.value}")
        return tensor

    @classmethod
    def from_string_array(cls, string_array: Any) -> Tensor:
        """As `from_bytes_array`."""
        return cls.from_bytes_array(string_array)

    @classmethod
    def _of(cls, value: Any) -> Tensor:
        try:
            array = to_array(value)
            return cls.of_core(CoreTensor.from_numpy("", array, datatype_of(array.dtype)))
        except (TypeError, ValueError, BufferError) as error:
            raise InvalidArgumentError(f"{type(value).__name__} cannot be a tensor: {error}") from error

    @property
    def data_type(self) -> DataType:
        """The datatype."""
        return self.core.datatype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self.core.shape

    @property
    def size(self) -> int:
        """Bytes; those of the wire's form for BYTES."""
        return self.core.byte_size

    @property
    def memory_buffer(self) -> MemoryBuffer:
        """The memory that its elements lie in; those of responses are not to be written."""
        return MemoryBuffer.of_bytes(self.core.data)

    @property
    def data_ptr(self) -> int:
        """The address of its elements."""
        return self.memory_buffer.data_ptr

    @property
    def memory_type(self) -> MemoryType:
        """Where it lies."""
        return MemoryType.CPU

    @property
    def memory_type_id(self) -> int:
        """The number of the device."""
        return 0

    def to_bytes_array(self) -> np.ndarray:
        """The elements of a BYTES tensor as objects of type `bytes`.

        Raises:
            InvalidArgumentError: it is of another datatype.
        """
        if self.data_type is not DataType.BYTES:
            raise InvalidArgumentError(f"Tensor has data type {self.data_type.value} not BYTES")
        return self.core.as_numpy()

    def to_string_array(self) -> np.ndarray:
        """The elements of a BYTES tensor as texts.

        Raises:
            InvalidArgumentError: it is of another datatype, or an element is no UTF-8 text.
        """
        elements = self.to_bytes_array()
        try:
            texts = [element.decode() for element in elements.ravel()]
        except UnicodeDecodeError as error:
            raise InvalidArgumentError(f"an element is no UTF-8 text, use to_bytes_array(): {error}") from error
        return np.array(texts, dtype=np.str_).reshape(elements.shape)

    def to_host(self) -> Tensor:
        """The tensor itself: it is there."""
        return self

    def to_device(self, device: DeviceOrMemoryType) -> Tensor:
        """The tensor itself for the CPU.

        Raises:
            UnsupportedError: for any other device.
        """
        kind = device[0] if isinstance(device, tuple) else device
        if kind in ("cpu", MemoryType.CPU) or kind is DLDeviceType.kDLCPU:
            return self
        raise UnsupportedError(f"tensors are in host memory; move one to {device!r} with the library that uses it")

    def __dlpack__(self, **options: Any) -> Any:
        if self.data_type in (DataType.BYTES, DataType.BF16):
            raise UnsupportedError(
                f"numpy exports no {self.data_type.value} over DLPack; see to_bytes_array() and core"
            )
        array = self.core.as_numpy()
        return (array if array.flags.writeable else array.copy()).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[DLDeviceType, int]:
        return DLDeviceType.kDLCPU, 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.core.as_numpy(), dtype=dtype) if copy else np.asarray(self.core.as_numpy(), dtype=dtype)

    def __repr__(self) -> str:
        return f"Tensor({self.data_type.value}, {list(self.shape)})"
