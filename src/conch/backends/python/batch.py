"""A batch as the messages `stub.conch_stub.protocol` defines, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from conch.backend_api import Output, Unanswered
from conch.backends.python.loans import LoanPlace, OutputArena
from conch.backends.python.memory import ChildMemory, Place
from conch.backends.python.stub.conch_stub import protocol
from conch.backends.python.stub.conch_stub.memory import Segment
from conch.errors import BackendError, Code, ConchError
from conch.inference import InferRequest, InferResponse, Parameter
from conch.tensor import Tensor
from conch.tensor.datatype import DATATYPE_BY_NAME
from conch.tensor.tensor import Buffer

_INLINE_TENSOR_BYTES = protocol.INLINE_TENSOR_BYTES
_INLINE_MESSAGE_BYTES = protocol.INLINE_MESSAGE_BYTES

_NO_PARAMETERS: Mapping[str, Parameter] = {}

#: Error codes by the number they have in the child's messages (Triton's numbers).
CODES = (
    Code.UNKNOWN,
    Code.INTERNAL,
    Code.NOT_FOUND,
    Code.INVALID_ARG,
    Code.UNAVAILABLE,
    Code.UNSUPPORTED,
    Code.ALREADY_EXISTS,
    Code.CANCELLED,
)


NUMBERS = {code: number for number, code in enumerate(CODES)}

#: What becomes of a request, by the number it has in the child's answers.
_UNANSWERED = (Unanswered.OPEN, Unanswered.RESCHEDULED)


class LargeInputs(msgspec.Struct):
    """The tensors of a message that ride in shared memory, with the places they are to be copied to."""

    segment: Segment
    places: list[Place]
    data: list[Buffer]

    @property
    def byte_size(self) -> int:
        """How many bytes there are to copy."""
        return sum(place[3] for place in self.places)


def encode_requests(
    requests: Sequence[InferRequest], memory: ChildMemory
) -> tuple[tuple[Any, ...], LargeInputs | None]:
    """The requests of an EXECUTE message, and what has to be copied before it is sent."""
    encoded: list[tuple[Any, ...]] = []
    large: list[tuple[list[Any], int, Buffer]] = []
    inline_bytes = 0
    for request in requests:
        inputs: list[Any] = []
        for tensor in request.inputs:
            data: Buffer | LoanPlace = tensor.data
            size = len(data)
            inline_bytes += size
            if size > _INLINE_TENSOR_BYTES or inline_bytes > _INLINE_MESSAGE_BYTES:
                inline_bytes -= size
                loan = memory.loans.lend(tensor.data)
                if loan is None:
                    large.append((inputs, len(inputs), tensor.data))
                else:
                    data = loan
            inputs.append((tensor.name, tensor.datatype._value_, tensor.shape, data))
        outputs = request.outputs
        encoded.append(
            (
                inputs,
                request.id,
                request.correlation_id,
                request.flags,
                request.timeout_us,
                dict(request.parameters) if request.parameters else None,
                tuple([output.name for output in outputs]) if outputs else None,
            )
        )
    if not large:
        memory.inputs.note_unused()
        return tuple(encoded), None
    segment, places = memory.inputs.reserve([len(data) for _, _, data in large])
    for (inputs, position, _), place in zip(large, places, strict=True):
        inputs[position] = (*inputs[position][:3], place)
    return tuple(encoded), LargeInputs(segment, places, [data for _, _, data in large])


def decode_responses(responses: Sequence[Any], memory: ChildMemory) -> list[Output | ConchError | Unanswered]:
    """What became of each request.

    Raises:
        ValueError, TypeError, KeyError, IndexError, OSError: the child sent what are no responses.
    """
    decoded: list[Output | ConchError | Unanswered] = []
    views: dict[int, np.ndarray] = {}
    for response in responses:
        if type(response) is int:
            decoded.append(_UNANSWERED[response])
            continue
        code, content, parameters = response
        if code is not None:
            decoded.append(BackendError(content, CODES[code]))
        else:
            decoded.append(Output(_decode_tensors(content, views, memory), parameters or _NO_PARAMETERS))
    return decoded


def decode_response(response: Any, memory: ChildMemory) -> Output | ConchError:
    """A response that came alone; raises as `decode_responses`."""
    [decoded] = decode_responses((response,), memory)
    if isinstance(decoded, Unanswered):
        raise TypeError(f"no response: {response!r}")
    return decoded


def decode_tensors(content: Sequence[Any], memory: ChildMemory) -> tuple[Tensor, ...]:
    """The tensors of a message that came alone; raises as `decode_responses`."""
    return _decode_tensors(content, {}, memory)


def _decode_tensors(content: Sequence[Any], views: dict[int, np.ndarray], memory: ChildMemory) -> tuple[Tensor, ...]:
    tensors: list[Tensor] = []
    for name, datatype, shape, data in content:
        if type(data) is not bytes:
            data = memory.loans.view(*data) if len(data) == 3 else _view(data, views, memory.outputs)
        tensors.append(Tensor(name, DATATYPE_BY_NAME[datatype], shape, data))
    return tuple(tensors)


def encode_response(response: InferResponse, memory: ChildMemory) -> tuple[tuple[Any, ...], LargeInputs | None]:
    """The response of another model for the child, and what has to be copied before it is sent."""
    tensors: list[Any] = []
    large: list[int] = []
    inline_bytes = 0
    for position, tensor in enumerate(response.outputs):
        data: Buffer | LoanPlace = tensor.data
        size = len(data)
        if size > _INLINE_TENSOR_BYTES or inline_bytes + size > _INLINE_MESSAGE_BYTES:
            loan = memory.loans.lend(tensor.data)
            if loan is None:
                large.append(position)
            else:
                data = loan
        else:
            inline_bytes += size
        tensors.append((tensor.name, tensor.datatype._value_, tensor.shape, data))
    encoded = (None, tensors, dict(response.parameters) if response.parameters else None)
    if not large:
        return encoded, None
    contents = [response.outputs[position].data for position in large]
    segment, places = memory.inputs.lend([len(data) for data in contents])
    for position, place in zip(large, places, strict=True):
        tensors[position] = (*tensors[position][:3], place)
    return encoded, LargeInputs(segment, places, contents)


def _view(place: Place, views: dict[int, np.ndarray], arena: OutputArena) -> memoryview:
    """The bytes of a place; all views of a batch share the array whose end releases their segment."""
    offset, size, start, length = place
    view = views.get(offset)
    if view is None:
        view = views[offset] = arena.view(offset, size)
    return view.data[start : start + length]
