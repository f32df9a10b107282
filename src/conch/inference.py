"""The values that travel between wire and model: requests, responses and what was asked of them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conch.errors import InvalidArgumentError, UnsupportedError
from conch.tensor import Tensor
from conch.trace import RequestTrace

#: A request or response parameter: what `InferParameter` can hold.
Parameter = bool | int | float | str

#: Flags of a request, numbered as Triton numbers them (`TRITONSERVER_REQUEST_FLAG_SEQUENCE_*`).
SEQUENCE_START = 1
SEQUENCE_END = 2

#: Longest id of a sequence that is text, in bytes of UTF-8.
CORRELATION_ID_BYTES = 128

_NO_PARAMETERS: Mapping[str, Parameter] = {}


class RequestedOutput(msgspec.Struct, frozen=True, gc=False):
    """One output a client asked for.

    Attributes:
        name: the output's name.
        classification: answer with the top-k classes as BYTES "value:index[:label]" instead of the tensor; 0 for off.
        parameters: what else the client said of this output (`binary_data`, shared memory); read by the wire alone.
    """

    name: str
    classification: int = 0
    parameters: Mapping[str, Parameter] = _NO_PARAMETERS


class Form:
    """Stands for what many requests have in common; compared by identity. See `InferRequest.form`."""

    __slots__ = ()


class InferRequest(msgspec.Struct, frozen=True):
    """One inference request, already free of any protocol.

    Attributes:
        model_name: the model.
        model_version: version as the client wrote it; "" lets the version policy choose.
        inputs: tensors in the order they arrived; names are unique.
        id: the client's own id, "" when it gave none.
        outputs: requested outputs in the client's order; empty means all.
        parameters: custom parameters. Those with a meaning of their own (sequence, priority, timeout) are the fields
            below and are not repeated here.
        correlation_id: the sequence it belongs to; 0 or "" for none.
        flags: SEQUENCE_START | SEQUENCE_END.
        priority: scheduling priority, 1 the highest; 0 takes the model's default.
        timeout_us: how long it may wait in a queue; 0 takes the model's default.
        empty_final: whether the client of a stream wants to hear of the end of a decoupled model's responses also
            where nothing but the end is left to say.
        trace: what it leaves behind on its way; None when it is not traced.
        response_window: how many of its responses may be waiting to be taken before the model that sends them has to
            wait itself; 0 for any number.
        form: requests of one form have equal names, datatypes, shapes and sizes of inputs, none of them BYTES, and
            equal requested outputs, so that what was found out about one holds for all. None where that is not known.
    """

    model_name: str
    model_version: str
    inputs: tuple[Tensor, ...]
    id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Mapping[str, Parameter] = _NO_PARAMETERS
    correlation_id: int | str = 0
    flags: int = 0
    priority: int = 0
    timeout_us: int = 0
    empty_final: bool = False
    trace: RequestTrace | None = None
    form: Form | None = None
    response_window: int = 0

    def input(self, name: str) -> Tensor | None:
        """The input of that name, or None."""
        for tensor in self.inputs:
            if tensor.name == name:
                return tensor
        return None


class InferResponse(msgspec.Struct, frozen=True):
    """The answer to one request.

    Attributes:
        model_name: the model that answered.
        model_version: the version that answered.
        id: the request's id.
        outputs: tensors, only those requested, in the order in which the model made them.
        parameters: what the model said beside its tensors.
        empty: it is no response, but says that a decoupled model has sent all of its responses.
    """

    model_name: str
    model_version: str
    id: str
    outputs: tuple[Tensor, ...]
    parameters: Mapping[str, Parameter] = _NO_PARAMETERS
    empty: bool = False

    def output(self, name: str) -> Tensor | None:
        """The output of that name, or None."""
        for tensor in self.outputs:
            if tensor.name == name:
                return tensor
        return None


def request_prefix(request_id: str) -> str:
    """What Triton puts before errors about one request: "[request id: ...] "."""
    return f"[request id: {request_id or '<id_unknown>'}] "


def checked_correlation_id(value: int | str) -> int | str:
    """The id of a sequence, when it can be one.

    Raises:
        UnsupportedError: it is text longer than Triton takes.
        InvalidArgumentError: it is no 64 bit unsigned integer.
    """
    if isinstance(value, str):
        if len(value) > CORRELATION_ID_BYTES or len(value.encode(errors="surrogatepass")) > CORRELATION_ID_BYTES:
            raise UnsupportedError(f"string correlation ID cannot be longer than {CORRELATION_ID_BYTES} characters")
    elif not 0 <= value < 2**64:
        raise InvalidArgumentError(f"a correlation id is text or an unsigned integer, got {value}")
    return value
