"""`pb_utils.InferenceRequest` and `pb_utils.InferenceResponse`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import bls
from .calls import server
from .errors import NamedNumber, TritonError, TritonModelException
from .protocol import TRACE_CONTEXT
from .sender import Execution, InferenceResponseSender
from .tensor import Tensor, received


class MemoryType(NamedNumber):
    """Where tensors lie, for `PreferredMemory`."""

    TRITONSERVER_MEMORY_GPU = 0
    TRITONSERVER_MEMORY_CPU = 1


class PreferredMemory:
    """Where a request wants its response tensors. Accepted and kept; this server answers in host memory."""

    __slots__ = ("preferred_device_id", "preferred_memory_type")

    def __init__(self, preferred_memory_type: MemoryType, preferred_device_id: int = 0) -> None:
        if not isinstance(preferred_memory_type, MemoryType):
            raise TypeError(
                "PreferredMemory: preferred_memory_type must be TRITONSERVER_MEMORY_CPU or _GPU, got "
                f"{preferred_memory_type!r}"
            )
        self.preferred_memory_type = preferred_memory_type
        self.preferred_device_id = preferred_device_id


class InferenceTrace:
    """The trace of a request. A request that a model makes with it becomes a part of it, if the request is traced."""

    __slots__ = ("_request",)

    def __init__(self, request: tuple[int, int] | None = None) -> None:
        self._request = request

    def get_context(self) -> str | None:
        """The context of OpenTelemetry as JSON, `{"traceparent": ...}`; None where the request is not traced that way.

        Asks the server.
        """
        context = None if self._request is None else server().ask(TRACE_CONTEXT, *self._request)
        return None if context is None else f'{{"traceparent":"{context}"}}'


class InferenceRequest:
    """A request: one the server hands to `execute`, or one a model makes."""

    # _release_flags and _sender are set when the model first uses them.
    __slots__ = (
        "__weakref__",
        "_correlation_id",
        "_execution",
        "_flags",
        "_id",
        "_inputs",
        "_model_name",
        "_model_version",
        "_outputs",
        "_parameters",
        "_position",
        "_preferred_memory",
        "_release_flags",
        "_segment",
        "_sender",
        "_timeout",
        "_trace",
        "_wire_inputs",
    )

    #: Names of all outputs of the served model: what a request without requested outputs asks for.
    _model_outputs: tuple[str, ...] = ()

    def __init__(
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Sequence[Tensor] | None = None,
        requested_output_names: Sequence[str] | None = None,
        model_name: str | None = None,
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,
        trace: InferenceTrace | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        if inputs is None or requested_output_names is None or not isinstance(model_name, str):
            raise TypeError("InferenceRequest: inputs, requested_output_names and model_name must be given")
        if type(requested_output_names) is str or not all(isinstance(name, str) for name in requested_output_names):
            raise TypeError("InferenceRequest: requested_output_names must be a list of str")
        for tensor in inputs:
            if tensor is None:
                raise TritonModelException(
                    f"Input tensor for request with id '{request_id}' and model name '{model_name}' should not be "
                    "empty."
                )
            if not isinstance(tensor, Tensor):
                raise TypeError(f"InferenceRequest: inputs must be a list of Tensor, got a {type(tensor).__name__}")
        if not isinstance(correlation_id, (int, str)):
            raise TritonModelException("Correlation ID must be integer or string")
        if type(correlation_id) is int and not 0 <= correlation_id < 1 << 64:
            raise TritonModelException(f"Correlation ID must be an unsigned integer of 64 bits, got {correlation_id}")
        if not isinstance(request_id, str):
            raise TypeError(f"InferenceRequest: request_id must be a str, got {type(request_id).__name__}")
        for field, number in (("model_version", model_version), ("flags", flags), ("timeout", timeout)):
            if not hasattr(number, "__index__") or (field != "model_version" and number < 0):
                raise TypeError(f"InferenceRequest: {field} must be an integer, not negative; got {number!r}")
        if preferred_memory is not None and not isinstance(preferred_memory, PreferredMemory):
            raise TypeError(f"InferenceRequest: preferred_memory must be a PreferredMemory, got {preferred_memory!r}")
        if parameters is not None:
            parameters = _plain_parameters(parameters)
        if trace is not None and not isinstance(trace, InferenceTrace):
            raise TypeError(f"InferenceRequest: trace must be an InferenceTrace, got {type(trace).__name__}")
        self._id = request_id
        self._correlation_id = correlation_id
        self._inputs: list[Tensor] | None = list(inputs)
        self._wire_inputs: Sequence[tuple[Any, ...]] = ()
        self._outputs: Sequence[str] | None = tuple(requested_output_names)
        self._model_name: str | None = model_name
        self._model_version = int(model_version)
        self._flags = int(flags)
        self._timeout = int(timeout)
        self._preferred_memory = preferred_memory
        self._trace = trace
        self._parameters = parameters
        self._segment: Any = None
        self._execution: Execution | None = None
        self._position = 0

    def inputs(self) -> list[Tensor]:
        """The input tensors, the same list at every call."""
        inputs = self._inputs
        if inputs is None:
            segment = self._segment
            inputs = self._inputs = [received(wire, segment) for wire in self._wire_inputs]
            self._wire_inputs = ()
        return inputs

    def request_id(self) -> str:
        """The client's id, "" without one."""
        return self._id

    def correlation_id(self) -> int | str:
        """The sequence it belongs to; 0 for none."""
        return self._correlation_id

    def flags(self) -> int:
        """TRITONSERVER_REQUEST_FLAG_SEQUENCE_START | _END."""
        return self._flags

    def set_flags(self, flags: int) -> None:
        """Replace the flags."""
        if not hasattr(flags, "__index__"):
            raise TypeError(f"set_flags: flags must be an integer, got {type(flags).__name__}")
        self._flags = int(flags)

    def set_release_flags(self, flags: int) -> None:
        """TRITONSERVER_REQUEST_RELEASE_RESCHEDULE has the request executed again, in a later batch."""
        self._release_flags = int(flags)
        if self._execution is not None:
            self._execution.reschedules = True

    def timeout(self) -> int:
        """The client's timeout in microseconds; 0 for none."""
        return self._timeout

    def parameters(self) -> str:
        """The custom parameters as JSON text, "{}" without any."""
        if not self._parameters:
            return "{}"
        import json

        if self._execution is None:  # Triton writes the parameters of requests that a model made with spaces
            return json.dumps(self._parameters)
        return json.dumps(self._parameters, separators=(",", ":"))

    def trace(self) -> InferenceTrace:
        """Its trace, to hand on to the requests that are made for it."""
        if self._trace is None:
            execution = self._execution
            self._trace = InferenceTrace(None if execution is None else (execution.number, self._position))
        return self._trace

    def preferred_memory(self) -> PreferredMemory:
        """Where its response tensors are wanted."""
        return self._preferred_memory or PreferredMemory(MemoryType.TRITONSERVER_MEMORY_CPU)

    def requested_output_names(self) -> set[str]:
        """The outputs its client wants; all of the model's where it named none."""
        return set(self._model_outputs if self._outputs is None else self._outputs)

    def is_cancelled(self) -> bool:
        """Whether its client gave it up (asks the server). Always false for a request that a model made."""
        execution = self._execution
        if execution is None or execution.number < 0:
            return False
        return self._get_sender(execution).is_cancelled()

    def get_response_sender(self) -> InferenceResponseSender:
        """What answers the request beside, or instead of, the list that `execute` returns; the same at every call.

        Raises:
            TritonModelException: the request was made by the model itself, or cannot be answered this way.
        """
        execution = self._execution
        if execution is None:
            raise TritonModelException("get_response_sender: only a request that was handed to `execute` has one")
        if execution.number < 0:
            raise TritonModelException(
                "get_response_sender: the requests of a model with 'conch.padding' are answered by the list that "
                "`execute` returns"
            )
        return self._get_sender(execution)

    def _get_sender(self, execution: Execution) -> InferenceResponseSender:
        sender: InferenceResponseSender | None = getattr(self, "_sender", None)
        if sender is None:
            sender = self._sender = InferenceResponseSender(execution, self._position, self._id, self._outputs)
        return sender

    def exec(self, decoupled: bool = False) -> Any:
        """Send it to the model it names and wait for the response; with `decoupled`, for an iterator over responses.

        What goes wrong is told by the response (`has_error`).

        Raises:
            TritonModelException: models cannot be called now, or the server is gone.
        """
        return bls.execute(self._outward("exec"), decoupled)

    def async_exec(self, decoupled: bool = False) -> Any:
        """As `exec`, on the running event loop: an asyncio future. The request is under way before it is awaited."""
        return bls.execute_async(self._outward("async_exec"), decoupled)

    def _outward(self, method: str) -> InferenceRequest:
        if self._model_name is None:
            raise TritonModelException(f"{method}: the request was received, not made: it names no model to call")
        return self


def _plain_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with values of Python's own types (numpy's scalars are subclasses of some of them)."""
    if not isinstance(parameters, dict):
        raise TritonModelException(f"Expect parameters to be a dict, got {type(parameters)}")
    plain: dict[str, Any] = {}
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TritonModelException(f"Expect parameters keys to have type str, found type {type(key)}")
        for kind in (bool, int, float, str):
            if isinstance(value, kind):
                plain[str(key)] = kind(value)
                break
        else:
            raise TritonModelException(f"Expect parameters values to have type bool/int/str, found type {type(value)}")
    return plain


def received_request(wire: tuple[Any, ...], segment: Any, execution: Execution, position: int) -> InferenceRequest:
    """The request at that position of a message; its tensors are made when the model first asks for them."""
    request = InferenceRequest.__new__(InferenceRequest)
    (
        request._wire_inputs,
        request._id,
        request._correlation_id,
        request._flags,
        request._timeout,
        request._parameters,
        request._outputs,
    ) = wire
    request._inputs = None
    request._segment = segment
    request._model_name = None
    request._preferred_memory = None
    request._trace = None
    request._execution = execution
    request._position = position
    return request


class InferenceResponse:
    """The answer to one request: its tensors, or an error."""

    __slots__ = ("__weakref__", "_error", "_parameters", "_tensors")

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        if type(output_tensors) is not list and type(output_tensors) is not tuple:
            output_tensors = list(output_tensors)
        for tensor in output_tensors:
            if tensor is None:
                raise TritonModelException("Output tensor for inference response should not be empty.")
            if not isinstance(tensor, Tensor):
                raise TypeError(f"InferenceResponse: output_tensors must be Tensors, got {type(tensor).__name__}")
        if error is not None and not isinstance(error, TritonError):
            raise TypeError(f"InferenceResponse: error must be a TritonError, got {type(error).__name__}")
        if parameters is not None:
            parameters = _plain_parameters(parameters)
        self._tensors = output_tensors
        self._error = error
        self._parameters = parameters

    def output_tensors(self) -> list[Tensor]:
        """Its tensors; beside an error they are not sent."""
        return list(self._tensors)

    def has_error(self) -> bool:
        """Whether it is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """The error, or None."""
        return self._error

    def parameters(self) -> str:
        """Its parameters as JSON text."""
        import json

        return json.dumps(self._parameters or {})
