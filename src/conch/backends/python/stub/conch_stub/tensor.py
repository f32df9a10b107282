"""`pb_utils.Tensor`: a named tensor that becomes a numpy array only where a model asks for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from . import datatype as datatypes
from .errors import TritonModelException

_NAME_BY_DTYPE = datatypes.NAME_BY_DTYPE
_DTYPE_BY_NAME = datatypes.DTYPE_BY_NAME
_ndarray = np.ndarray

#: `kDLCPU`, device 0.
_DLPACK_CPU = (1, 0)


class Tensor:
    """A named tensor in host memory."""

    # _data: the wire bytes of an input that nobody asked an array of yet (a Segment for one in shared memory, at
    # _offset); _array: the array, for BF16 its uint16 bits.
    __slots__ = ("__weakref__", "_array", "_data", "_datatype", "_name", "_offset", "_shape")

    def __init__(self, name: str, array: np.ndarray[Any, Any]) -> None:
        if not isinstance(name, str) or not isinstance(array, _ndarray):
            raise TypeError(
                f"Tensor(name: str, array: numpy.ndarray): got {type(name).__name__} and {type(array).__name__}"
            )
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        datatype = _NAME_BY_DTYPE.get(array.dtype) or datatypes.name_of_dtype(array.dtype)
        if datatype is None:
            raise TritonModelException("NumPy dtype is not supported.")
        if not array.flags.c_contiguous:
            array = array.copy(order="C")
        if datatype == "BF16":
            array = array.view(np.uint16)
        self._name = name if type(name) is str else str(name)  # a subclass, such as numpy's, would travel as bytes
        self._datatype = datatype
        self._shape = array.shape
        self._array = array
        self._data: Any = None
        self._offset = 0

    def name(self) -> str:
        """Its name."""
        return self._name

    def shape(self) -> list[int]:
        """Its dimensions, the batch dimension included."""
        return list(self._shape)

    def triton_dtype(self) -> str:
        """Its datatype under the name it has on the wire, such as "FP32" or "BYTES"."""
        return self._datatype

    def is_cpu(self) -> bool:
        """Always true: tensors reach and leave the model in host memory."""
        return True

    def as_numpy(self) -> np.ndarray[Any, Any]:
        """The elements, the same writable array at every call; BYTES as an object array of `bytes`.

        Raises:
            TritonModelException: the datatype is BF16, which numpy lacks; use DLPack.
        """
        if self._datatype == "BF16":
            raise TritonModelException(
                "Tensor dtype is BF16 and cannot be converted to NumPy. Use to_dlpack() and from_dlpack() instead."
            )
        array = self._array
        if array is None:
            array = self._materialize()
        return array

    def _materialize(self) -> np.ndarray[Any, Any]:
        data = self._data
        if self._datatype == "BYTES":
            elements = datatypes.decode_elements(data)
            array = np.empty(len(elements), dtype=object)
            array[:] = elements
            self._array = array.reshape(self._shape)
        elif type(data) is bytes:
            # Bytes are immutable and models may write into their inputs.
            self._array = _ndarray(self._shape, _DTYPE_BY_NAME[self._datatype], bytearray(data))
        else:
            self._array = _ndarray(self._shape, _DTYPE_BY_NAME[self._datatype], data, self._offset)
        self._data = None
        return self._array

    def to_dlpack(self) -> Any:
        """A DLPack capsule over the same memory.

        Raises:
            TritonModelException: the datatype is BYTES.
        """
        return self.__dlpack__()

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ) -> Any:
        if self._datatype == "BYTES":
            raise TritonModelException("DLPack does not have support for string tensors.")
        from . import dlpack

        array = self._array
        return dlpack.to_capsule(self._materialize() if array is None else array, self._datatype)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DLPACK_CPU

    @staticmethod
    def from_dlpack(name: str, source: Any) -> Tensor:
        """A tensor over the memory of a DLPack capsule or of an object with `__dlpack__`; the producer stays alive.

        Raises:
            TritonModelException: it is no such thing, not contiguous, or of a type no tensor has.
        """
        from . import dlpack

        tensor = Tensor.__new__(Tensor)
        tensor._name = str(name)
        tensor._array, tensor._datatype = dlpack.from_object(source)
        tensor._shape = tensor._array.shape
        tensor._data = None
        tensor._offset = 0
        return tensor


def with_loans(tensors: Iterable[tuple[Any, ...]], loans: Mapping[int, Any]) -> list[tuple[Any, ...]]:
    """The tensors of a message with the loans in place of their numbers."""
    return [
        (name, datatype, shape, (loans[data[0]], *data[1:]) if type(data) is not bytes and len(data) == 3 else data)
        for name, datatype, shape, data in tensors
    ]


def received(wire: tuple[Any, ...], segment: Any) -> Tensor:
    """The input tensor of a message.

    Args:
        segment: the shared memory that the large tensors of the message lie in, but for those on loan.
    """
    tensor = Tensor.__new__(Tensor)
    tensor._name, tensor._datatype, tensor._shape, data = wire
    tensor._array = None  # type: ignore[assignment]
    if type(data) is bytes:
        tensor._data = data
        tensor._offset = 0
    else:
        area, start, length = data if len(data) == 3 else (segment, data[2], data[3])
        if tensor._datatype == "BYTES":
            tensor._data = bytes(memoryview(area)[start : start + length])
        else:
            tensor._data = area
            tensor._offset = start
    return tensor


def wire_data(tensor: Tensor) -> Any:
    """What of a tensor goes on the wire: a C-contiguous array of its raw elements, or bytes."""
    if tensor._datatype == "BYTES":
        return datatypes.encode_elements(tensor.as_numpy())
    array = tensor._array
    return tensor._materialize() if array is None else array
