"""The parameters of a tensor that say it lies in shared memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from conch.errors import InvalidArgumentError
from conch.inference import RequestedOutput
from conch.wire.shared_memory import Area

_REGION, _OFFSET, _BYTE_SIZE = "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"
_FIELDS = {_REGION: "string_param", _OFFSET: "int64_param", _BYTE_SIZE: "int64_param"}


def area_of(tensor: Any) -> Area | None:
    """Where an input or requested output lies, None for one that travels.

    Raises:
        InvalidArgumentError: the parameters are of the wrong type, or not complete.
    """
    for name, field in _FIELDS.items():
        if name in tensor.parameters and tensor.parameters[name].WhichOneof("parameter_choice") != field:
            raise InvalidArgumentError(
                f"invalid value type for '{name}' parameter for tensor '{tensor.name}', expected {field}."
            )
    if _REGION not in tensor.parameters:
        for name in (_OFFSET, _BYTE_SIZE):
            if name in tensor.parameters:
                raise InvalidArgumentError(
                    f"'{name}' can not be specified without '{_REGION}' parameter for tensor '{tensor.name}'"
                )
        return None
    if _BYTE_SIZE not in tensor.parameters:
        raise InvalidArgumentError(
            f"'{_BYTE_SIZE}' must be specified along with '{_REGION}' parameter for tensor '{tensor.name}'"
        )
    offset = tensor.parameters[_OFFSET].int64_param if _OFFSET in tensor.parameters else 0
    return _area(tensor.parameters[_REGION].string_param, offset, tensor.parameters[_BYTE_SIZE].int64_param)


def output_areas(outputs: Iterable[RequestedOutput]) -> dict[str, Area]:
    """Output name -> where in shared memory it shall go, for those that shall not travel."""
    areas: dict[str, Area] = {}
    for output in outputs:
        parameters = output.parameters
        if _REGION in parameters:
            offset, byte_size = parameters.get(_OFFSET, 0), parameters[_BYTE_SIZE]
            areas[output.name] = _area(str(parameters[_REGION]), int(offset), int(byte_size))
    return areas


def _area(region: str, offset: int, byte_size: int) -> Area:
    """The numbers are unsigned to the protocol, although they travel as int64."""
    return Area(region, offset % 2**64, byte_size % 2**64)
