"""`pb_utils.InferenceResponseSender`: responses that a model sends by itself, from any thread and at any time."""

from __future__ import annotations

import threading
from typing import Any

from .calls import server
from .errors import TritonModelException, describe, format_traceback
from .memory import SegmentPool
from .outgoing import Outgoing
from .protocol import CANCELLED, EXECUTION_FAILED, RESPONSE

#: TRITONSERVER_RESPONSE_COMPLETE_FINAL.
FINAL = 1


class Execution:
    """One execution of a batch, as far as its requests outlive it.

    Attributes:
        number: the server's for it; -1 where its requests have to be answered by what `execute` returns.
        decoupled: whether there may be more than one response to a request.
        pool: where large outputs go.
        has_replies: whether any of its requests is answered by itself.
    """

    __slots__ = ("decoupled", "has_replies", "number", "pool")

    def __init__(self, number: int, decoupled: bool, pool: SegmentPool) -> None:
        self.number = number
        self.decoupled = decoupled
        self.pool = pool
        self.has_replies = False

    def fail(self, error: BaseException) -> None:
        """Tell the server that the model failed after `execute` had returned."""
        server().tell(EXECUTION_FAILED, self.number, describe(error), format_traceback(error))


class Reply:
    """What was answered to one request so far. Goes with its request and the sender, whichever is kept longer."""

    __slots__ = ("_execution", "_position", "_wanted", "closed", "lock", "sent")

    def __init__(self, execution: Execution, position: int, wanted: Any) -> None:
        execution.has_replies = True
        self._execution = execution
        self._position = position
        self._wanted = wanted
        self.closed = False
        self.sent = 0
        self.lock = threading.Lock()

    def send(self, response: Any, flags: int) -> None:
        """See `InferenceResponseSender.send`."""
        if flags not in (0, FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and not flags:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        encoded = None if response is None else self._encoded(response)
        with self.lock:
            self.check(response is not None)
            self.closed = bool(flags)
            self.sent += response is not None
            server().tell(RESPONSE, self._execution.number, self._position, bool(flags), encoded)

    def check(self, brings_response: bool) -> None:
        """Raise TritonModelException if nothing (more) can be answered."""
        if not self._execution.decoupled:
            if brings_response and self.sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send more than one response."
                )
            if not brings_response and not self.sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send complete final before sending a response."
                )
        if self.closed:
            raise TritonModelException("Unable to send response. Response sender has been closed.")

    def is_cancelled(self) -> bool:
        """Whether the client gave the request up."""
        if self.closed:
            return False
        return bool(server().ask(CANCELLED, self._execution.number, self._position))

    def _encoded(self, response: Any) -> tuple[Any, ...]:
        error = response._error
        if error is not None:
            return (int(error._code), error._message, None)
        outgoing = Outgoing(self._execution.pool)
        tensors = outgoing.add(response._tensors, self._wanted)
        if outgoing.has_large:
            server().poll()  # segments may have been released
            outgoing.place()
        return (None, tensors, response._parameters)

    def __del__(self) -> None:
        # Nobody is left who could answer. A fork of this process has copies of what the model still holds.
        if not self.closed and not server().foreign:
            message = "the model let go of a request without sending the final response to it"
            server().tell(RESPONSE, self._execution.number, self._position, True, (1, message, None))


class InferenceResponseSender:
    """Answers one request, for as long as the model likes. Got from `InferenceRequest.get_response_sender`."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def send(self, response: Any = None, flags: int = 0) -> None:
        """Send a response; with TRITONSERVER_RESPONSE_COMPLETE_FINAL, the last one (or only the word that it was).

        Raises:
            TritonModelException: the last one was sent already, or the flags do not fit.
        """
        from .request import InferenceResponse

        if response is not None and not isinstance(response, InferenceResponse):
            raise TypeError(
                f"send(): response must be a c_python_backend_utils.InferenceResponse, got {type(response).__name__}"
            )
        self._reply.send(response, int(flags))

    def is_cancelled(self) -> bool:
        """Whether the client gave the request up (asks the server)."""
        return self._reply.is_cancelled()
