"""One batch in the child: from the message to the model and back."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .child_memory import ChildMemory
from .errors import TritonModelException
from .loans import Loan
from .memory import Segment
from .outgoing import Outgoing
from .protocol import LEFT_OPEN, OK, RESCHEDULED
from .request import InferenceRequest, InferenceResponse, received_request
from .sender import Execution
from .tensor import with_loans

if TYPE_CHECKING:
    import asyncio

#: TRITONSERVER_REQUEST_RELEASE_RESCHEDULE.
_RESCHEDULE = 2


class Executor:
    """Runs batches on a model.

    Args:
        memory: where large tensors lie.
        name: the model's, for errors.
        decoupled: whether the model answers all requests by itself.
    """

    def __init__(self, memory: ChildMemory, name: str, decoupled: bool) -> None:
        self._memory = memory
        self._segment: Segment | None = None
        self._references_at_rest = 0
        self._name = name
        self._decoupled = decoupled
        self._loop: Any = None
        # What the last answer forwards. It has to reach the server before the return of the loan, which another thread
        # may tell: the next batch says that it did.
        self._forwarded: list[Any] = []

    def run(self, model: Any, message: tuple[Any, ...]) -> tuple[Any, ...]:
        """Execute the batch of an EXECUTE message; the answer to it.

        Raises:
            BaseException: whatever the model raised.
        """
        _, wire_requests, place, released, number, loans, windows = message
        self._forwarded = []
        self._memory.pool.release(released)
        if place is not None:
            self._map_inputs(place)
        execution = Execution(number, self._decoupled, self._memory, windows)
        try:
            if loans:
                wire_requests = _with_loans(wire_requests, self._memory.borrower.take(loans))
            responses, start_ns, end_ns = self._respond(model, wire_requests, place is not None, execution)
        except BaseException:
            # The traceback refers to the inputs, and who knows what else does: the server forgets the segment too.
            self._segment = None
            for sender in execution.senders or ():  # the error of their requests is that of the batch
                sender._close()
            raise
        finally:
            execution.senders = None
            wire_requests = ()  # what they refer to may go
        # Arrays over shared memory refer to the segment. Where the model still holds one, the server must not reuse
        # that memory; the model keeps it for as long as it likes.
        kept = place is not None and self._references() > self._references_at_rest
        if kept:
            self._segment = None
        return (
            OK,
            responses,
            kept,
            self._memory.pool.retire(),
            start_ns,
            end_ns,
            self._memory.borrower.take_returned(),
        )

    def _map_inputs(self, place: tuple[int, int]) -> None:
        offset, size = place
        if self._segment is None or self._segment.offset != offset:
            self._segment = Segment.map(self._memory.inputs, offset, size, gives_pages_back=True)
            self._references_at_rest = self._references()

    def _references(self) -> int:
        return sys.getrefcount(self._segment)

    def _respond(
        self, model: Any, wire_requests: tuple[Any, ...], uses_segment: bool, execution: Execution
    ) -> tuple[tuple[Any, ...], int, int]:
        segment = self._segment if uses_segment else None
        requests = [received_request(wire, segment, execution, position) for position, wire in enumerate(wire_requests)]
        own = tuple(requests)  # the model may change its list
        start_ns = time.monotonic_ns()
        responses = model.execute(requests)
        if hasattr(responses, "__await__"):
            if self._decoupled:
                self._run_beside(responses, execution)
                responses = None
            else:
                responses = self._event_loop().run_until_complete(_finished(responses))
        end_ns = time.monotonic_ns()
        if self._decoupled or (responses is None and execution.number >= 0):
            if responses is not None:
                raise TritonModelException(
                    f"Python model '{self._name}' is using the decoupled mode and the execute function must return "
                    "None."
                )
            return tuple([_unanswered(request, execution) for request in own]), start_ns, end_ns
        if type(responses) is not list and not isinstance(responses, list):
            raise TritonModelException(f"Expected a list in the execute return, found type '{type(responses)}'.")
        if len(responses) != len(own):
            raise TritonModelException(
                "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
                f"InferenceRequest(s) size is:{len(own)}, and InferenceResponse(s) size is:{len(responses)}"
            )
        if execution.senders or execution.reschedules:
            _check_returned(own, responses)
        return self._encode(responses, own, execution), start_ns, end_ns

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            if self._decoupled:
                threading.Thread(target=self._loop.run_forever, name="execute", daemon=True).start()
            else:
                asyncio.set_event_loop(self._loop)
        return self._loop  # type: ignore[no-any-return]

    def _run_beside(self, awaitable: Any, execution: Execution) -> None:
        """Run what a decoupled model's `execute` returned while the next batches are executed."""
        import asyncio

        async def finished() -> None:
            try:
                await awaitable
            except BaseException as error:
                execution.fail(error)
                if not isinstance(error, Exception):
                    raise

        asyncio.run_coroutine_threadsafe(finished(), self._event_loop())

    def _encode(
        self, responses: list[Any], requests: Sequence[InferenceRequest], execution: Execution
    ) -> tuple[Any, ...]:
        encoded: list[Any] = []
        outgoing = Outgoing(self._memory)
        for response, request in zip(responses, requests):  # noqa: B905 (strict= is of Python 3.10)
            if not isinstance(response, InferenceResponse):
                if response is None and execution.number >= 0:
                    encoded.append(_unanswered(request, execution))
                    continue
                raise TritonModelException(
                    "Expected an 'InferenceResponse' object in the execute function return list, found type "
                    f"'{type(response)}'."
                )
            error = response._error
            if error is not None:
                encoded.append((int(error._code), error._message, None))
                continue
            tensors = outgoing.add(response._tensors, request._outputs)
            encoded.append((None, tensors, response._parameters))
        if outgoing.large:
            outgoing.place()
        self._forwarded = outgoing.forwarded
        return tuple(encoded)


def _with_loans(requests: Sequence[tuple[Any, ...]], loans: dict[int, Loan]) -> tuple[Any, ...]:
    """The requests of a message with the loans in place of their numbers."""
    return tuple([(with_loans(tensors, loans), *rest) for tensors, *rest in requests])


async def _finished(awaitable: Any) -> Any:
    return await awaitable


def _reschedules(request: InferenceRequest) -> bool:
    return getattr(request, "_release_flags", 1) == _RESCHEDULE


def _unanswered(request: InferenceRequest, execution: Execution) -> int:
    """What becomes of a request for which `execute` returned nothing."""
    sender = request._get_sender(execution)
    if _reschedules(request):
        sender._close()
        return RESCHEDULED
    return LEFT_OPEN  # when the model lets go of the sender, too, the request is over


def _check_returned(requests: Sequence[InferenceRequest], responses: list[Any]) -> None:
    """Whether a list goes together with senders that were used and requests that are rescheduled."""
    for request, response in zip(requests, responses):  # noqa: B905
        if response is not None and _reschedules(request):
            raise TritonModelException(
                "Expected a None object in the execute function return list for reschduled request, found type "
                f"'{type(response)}'."
            )
        sender = getattr(request, "_sender", None)
        if sender is not None:
            sender._close_with(response is not None)
