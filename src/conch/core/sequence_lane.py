"""What the sequence batcher keeps of an instance, of its places, and of the requests on their way to them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from conch.core.queue import Pending, RequestFuture
from conch.core.scheduler import Scheduler
from conch.core.sequence import CorrelationId
from conch.core.sequence_states import States
from conch.inference import SEQUENCE_END, SEQUENCE_START, InferRequest


class Entry:
    """A request of a sequence on its way to its lane.

    Attributes:
        flags: those that the model is told.
        end: nothing comes after it in its place.
        given_up: its client cancelled it before it was sent; it keeps its place, since the sequence may start or end
            with it.
    """

    __slots__ = ("correlation_id", "end", "flags", "given_up", "pending", "sent", "start")

    def __init__(self, pending: Pending, correlation_id: CorrelationId, flags: int) -> None:
        self.pending = pending
        self.correlation_id = correlation_id
        self.flags = flags
        self.start = bool(flags & SEQUENCE_START)
        self.end = bool(flags & SEQUENCE_END)
        self.given_up = False
        self.sent = False


class Slot:
    """A place for one sequence at a time.

    Attributes:
        queue: requests that wait for those before them.
        in_flight: the lane has a request of this place.
        sequence: whose place it is; None for nobody's, or once its last request has come.
        idle_since_ns: when there was last something to do for it.
        states: what the sequence's last answer left for the next request.
    """

    __slots__ = ("idle_since_ns", "in_flight", "lane", "number", "queue", "sequence", "states")

    def __init__(self, number: int, lane: Lane) -> None:
        self.number = number
        self.lane = lane
        self.queue: deque[Entry] = deque()
        self.in_flight = False
        self.sequence: CorrelationId | None = None
        self.idle_since_ns = 0
        self.states: States = {}


class Lane:
    """One instance's scheduler and places.

    Attributes:
        running: requests of the direct batch that is executed, null requests among them.
        planned: whether a look at the places is planned for this turn of the event loop.
        answered: of a direct batch, what was sent whose clients have not been told yet, with their futures.
    """

    __slots__ = ("_telling", "answered", "planned", "running", "scheduler", "slots")

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.slots: list[Slot] = []
        self.running = 0
        self.planned = False
        self.answered: list[tuple[Sent, RequestFuture]] = []
        self._telling: asyncio.Handle | None = None

    def plan_telling(self, handle: asyncio.Handle | None) -> None:
        """Have the clients told by this callback, and no other one."""
        if self._telling is not None:
            self._telling.cancel()
        self._telling = handle


class Sent(Pending):
    """A request as its lane gets it: with controls and states. A null request has no entry.

    Attributes:
        entry: the request it stands for.
    """

    __slots__ = ("entry", "slot")

    def __init__(self, request: InferRequest, slot: Slot, entry: Entry | None, model: Pending, now_ns: int) -> None:
        future = RequestFuture(loop=asyncio.get_running_loop())
        super().__init__(request, future, 1, model.shape_key, now_ns)
        self.entry = entry
        self.slot = slot
        self.uncounted = entry is None
        if entry is not None:
            self.arrived_ns = entry.pending.enqueued_ns

    def when_taken(self, count: int, callback: Callable[[int], None]) -> None:
        """See `conch.backend_api.ResponseSink`."""
        if self.entry is None:
            callback(count)
        else:
            self.entry.pending.when_taken(count, callback)

    @property
    def cancelled(self) -> bool:
        """Whether the client gave it up."""
        return self.entry is not None and self.entry.pending.future.cancelled()
