"""DLPack in plain ctypes: numpy arrays to capsules and back, BF16 included, which numpy itself cannot name.

The structures are those of dlpack.h, unversioned ("dltensor" capsules), which every producer and consumer speaks.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from .datatype import DTYPE_BY_NAME
from .errors import TritonModelException

_CPU = 1
_CUDA_HOST = 3

#: DLDataTypeCode and bits of each wire datatype; a one-lane element each.
_CODE_BY_NAME = {
    "BOOL": (6, 8),
    "UINT8": (1, 8),
    "UINT16": (1, 16),
    "UINT32": (1, 32),
    "UINT64": (1, 64),
    "INT8": (0, 8),
    "INT16": (0, 16),
    "INT32": (0, 32),
    "INT64": (0, 64),
    "FP16": (2, 16),
    "FP32": (2, 32),
    "FP64": (2, 64),
    "BF16": (4, 16),
}
_NAME_BY_CODE = {code: name for name, code in _CODE_BY_NAME.items()}
_NAME_BY_CODE[(1, 1)] = "BOOL"


class _DLTensor(ctypes.Structure):
    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _DLManagedTensor(ctypes.Structure):
    _fields_: ClassVar = [
        ("dl_tensor", _DLTensor),
        ("manager_context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)

_api = ctypes.pythonapi
_new_capsule: Callable[..., Any] = _api.PyCapsule_New
_new_capsule.restype = ctypes.py_object  # type: ignore[attr-defined]
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Destructor]  # type: ignore[attr-defined]
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", _api))
# The destructor runs while the capsule is being freed: it may only be named by its address, never as an object.
_is_valid_at = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_pointer_at = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))

_NAME = ctypes.create_string_buffer(b"dltensor")
_USED_NAME = ctypes.create_string_buffer(b"used_dltensor")

#: What exported capsules keep alive, by the address of their managed tensor.
_exported: dict[int, tuple[Any, ...]] = {}


def _forget(address: int) -> None:
    _exported.pop(address, None)


def _forget_unconsumed(capsule: int) -> None:
    if _is_valid_at(capsule, _NAME):  # nobody consumed it, so nobody else will release it
        _forget(_pointer_at(capsule, _NAME))


_release = _Deleter(_forget)
_destroy_capsule = _Destructor(_forget_unconsumed)


def to_capsule(array: np.ndarray[Any, Any], datatype: str) -> Any:
    """A capsule over a C-contiguous array of that wire datatype, without a copy."""
    shape = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
    managed = _DLManagedTensor()
    tensor = managed.dl_tensor
    tensor.data = array.ctypes.data
    tensor.device_type = _CPU
    tensor.ndim = array.ndim
    tensor.code, tensor.bits = _CODE_BY_NAME[datatype]
    tensor.lanes = 1
    tensor.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = ctypes.cast(_release, ctypes.c_void_p)
    address = ctypes.addressof(managed)
    _exported[address] = (managed, shape, array)
    return _new_capsule(address, ctypes.cast(_NAME, ctypes.c_char_p), _destroy_capsule)


class _Imported:
    """Owns a foreign managed tensor; gives it back to its producer when the last view is gone."""

    def __init__(self, address: int) -> None:
        self._address = address
        tensor = _DLManagedTensor.from_address(address).dl_tensor
        item_bytes = (tensor.bits + 7) // 8
        size = item_bytes
        for axis in range(tensor.ndim):
            size *= tensor.shape[axis]
        self.__array_interface__ = {
            "version": 3,
            "shape": (size,),
            "typestr": "|u1",
            "data": ((tensor.data or 0) + tensor.byte_offset, False),
        }

    def __del__(self) -> None:
        deleter = _DLManagedTensor.from_address(self._address).deleter
        if deleter:
            _Deleter(deleter)(self._address)


def _is_contiguous(tensor: _DLTensor, shape: tuple[int, ...]) -> bool:
    if not tensor.strides or 0 in shape:
        return True
    expected = 1
    for axis in reversed(range(tensor.ndim)):
        if shape[axis] != 1 and tensor.strides[axis] != expected:
            return False
        expected *= shape[axis]
    return True


def from_object(source: Any) -> tuple[np.ndarray[Any, Any], str]:
    """The array (BF16: its uint16 bits) and wire datatype behind a capsule or anything with `__dlpack__`; no copy.

    A tensor on a GPU is brought to the host first, where it knows how (`cpu()`).
    """
    if hasattr(source, "__dlpack__") and hasattr(source, "__dlpack_device__"):
        if source.__dlpack_device__()[0] not in (_CPU, _CUDA_HOST) and hasattr(source, "cpu"):
            source = source.cpu()
        capsule = source.__dlpack__()
    else:
        capsule = source
    if not _is_valid(capsule, _NAME):
        raise TritonModelException(
            "Provided tensor is not supported. Tensor must be a DLPack capsule or have `__dlpack__` and "
            f"`__dlpack_device__` attributes; got {type(source).__name__}"
        )
    address = _pointer(capsule, _NAME)
    tensor = _DLManagedTensor.from_address(address).dl_tensor
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    if tensor.device_type not in (_CPU, _CUDA_HOST):
        raise TritonModelException(
            f"DLPack tensor lies on device type {tensor.device_type}; this server takes tensors in host memory: "
            "copy it there first"
        )
    if not _is_contiguous(tensor, shape):
        raise TritonModelException(
            "DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored in C-Order are supported."
        )
    datatype = _NAME_BY_CODE.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if datatype is None:
        raise TritonModelException(
            f"DLPack dtype with code {tensor.code}, {tensor.bits} bits and {tensor.lanes} lanes is not supported"
        )
    _set_name(capsule, ctypes.cast(_USED_NAME, ctypes.c_char_p))
    raw = np.asarray(_Imported(address)) if 0 not in shape else np.empty(0, np.uint8)
    if 0 in shape:
        _Imported(address)  # nothing to view: give it back at once
    return raw.view(DTYPE_BY_NAME[datatype]).reshape(shape), datatype
