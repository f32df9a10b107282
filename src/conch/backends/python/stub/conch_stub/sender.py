"""`pb_utils.InferenceResponseSender`: responses that a model sends by itself, from any thread and at any time."""

from __future__ import annotations

import threading
from typing import Any

from . import request as requests
from .calls import server
from .child_memory import ChildMemory
from .errors import TritonModelException, describe, format_traceback
from .logger import Logger
from .outgoing import Outgoing
from .protocol import CANCELLED, EXECUTION_FAILED, RESPONSE, TAKEN

#: TRITONSERVER_RESPONSE_COMPLETE_FINAL.
FINAL = 1


class Execution:
    """One execution of a batch, as far as its requests outlive it.

    Attributes:
        number: the server's for it; -1 where its requests have to be answered by what `execute` returns.
        decoupled: whether there may be more than one response to a request.
        memory: where large outputs go.
        senders: those of its requests, until it has ended.
        reschedules: whether any of its requests is to be executed again.
        windows: of each request, how many responses the model may be ahead of those who take them; () for any number.
    """

    __slots__ = ("decoupled", "memory", "number", "reschedules", "senders", "windows")

    def __init__(self, number: int, decoupled: bool, memory: ChildMemory, windows: tuple[int, ...]) -> None:
        self.number = number
        self.decoupled = decoupled
        self.memory = memory
        self.windows = windows
        self.reschedules = False
        self.senders: list[InferenceResponseSender] | None = []

    def fail(self, error: BaseException) -> None:
        """Tell the server that the model failed after `execute` had returned."""
        server().tell(EXECUTION_FAILED, self.number, describe(error), format_traceback(error))


class InferenceResponseSender:
    """Answers one request, for as long as the model likes. Got from `InferenceRequest.get_response_sender`."""

    __slots__ = ("_closed", "_execution", "_lock", "_position", "_request_id", "_sent", "_taken", "_wanted", "_window")

    def __init__(self, execution: Execution, position: int, request_id: str, wanted: Any) -> None:
        if execution.senders is not None:
            execution.senders.append(self)
        self._execution = execution
        self._position = position
        self._request_id = request_id
        self._wanted = wanted
        self._closed = False
        self._sent = 0
        self._taken = 0
        self._window = execution.windows[position] if execution.windows else 0
        self._lock = threading.Lock()

    def send(self, response: Any = None, flags: int = 0) -> None:
        """Send a response; with TRITONSERVER_RESPONSE_COMPLETE_FINAL, the last one (or only the word that it was).

        In an ensemble with `max_inflight_requests` it waits while the steps after the model are behind.

        Raises:
            TritonModelException: the last one was sent already, or the flags do not fit.
        """
        if response is not None and not isinstance(response, requests.InferenceResponse):
            raise TypeError(
                f"send(): response must be a c_python_backend_utils.InferenceResponse, got {type(response).__name__}"
            )
        if flags not in (0, FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and not flags:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        encoded = None if response is None else self._encoded(response)
        with self._lock:
            self._check(response is not None)
            if self._window and response is not None:
                self._wait_for_room()
            self._closed = bool(flags)
            self._sent += response is not None
            execution = self._execution
            returned = execution.memory.borrower.take_returned()
            server().tell(RESPONSE, execution.number, self._position, self._closed, encoded, returned)

    def _wait_for_room(self) -> None:
        while self._sent - self._taken >= self._window:
            count = self._sent - self._window + 1
            self._taken = server().ask(TAKEN, self._execution.number, self._position, count)

    def is_cancelled(self) -> bool:
        """Whether the client gave the request up (asks the server)."""
        if self._closed:
            return False
        return bool(server().ask(CANCELLED, self._execution.number, self._position))

    def _close(self) -> None:
        """The request is answered, or ends, some other way."""
        self._closed = True

    def _close_with(self, returned: bool) -> None:
        """What `execute` returned is the last response, if it is one; there may be one in all."""
        if returned:
            with self._lock:
                self._check(True)
                self._closed = True

    def _check(self, brings_response: bool) -> None:
        if not self._execution.decoupled:
            if brings_response and self._sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send more than one response."
                )
            if not brings_response and not self._sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send complete final before sending a response."
                )
        if self._closed:
            raise TritonModelException("Unable to send response. Response sender has been closed.")

    def _encoded(self, response: Any) -> tuple[Any, ...]:
        error = response._error
        if error is not None:
            return (int(error._code), error._message, None)
        outgoing = Outgoing(self._execution.memory)
        tensors = outgoing.add(response._tensors, self._wanted)
        if outgoing.large:
            server().poll()  # segments may have been released
            outgoing.place()
        return (None, tensors, response._parameters)

    def __del__(self) -> None:
        # Nobody is left who could answer. A fork of this process has copies of what the model still holds.
        if not self._closed and not server().foreign:
            message = "the model let go of a request without sending the final response to it"
            server().tell(RESPONSE, self._execution.number, self._position, True, (1, message, None), ())
            name = f"request '{self._request_id}'" if self._request_id else "a request"
            Logger.log_warn(
                f"the model let go of {name} without sending the final response to it; it ends with an error"
            )
