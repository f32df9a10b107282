"""Tensors and their datatypes: the values every layer passes on."""

from conch.tensor.datatype import DataType
from conch.tensor.tensor import Tensor, decode_bytes_elements, encode_bytes_elements

__all__ = ["DataType", "Tensor", "decode_bytes_elements", "encode_bytes_elements"]
