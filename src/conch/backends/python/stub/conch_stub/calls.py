"""The child's own calls to the server: one socket, any thread, any number of calls under way at once.

Nobody reads the socket but who waits for an answer: a thread reads for all that wait until its own answer is there, and
then another one takes over. An event loop that waits is told by its selector.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .errors import TritonModelException
from .protocol import FAILED, RELEASED, FrameReader, encode

_READ_BYTES = 1 << 16

#: Where in an answer to INFER the output segments are that the server looks at no more.
_RELEASED_SEGMENTS = 6


class Answers:
    """What comes back to one call.

    Attributes:
        number: the call's.
        arrived: answers nobody has taken yet, oldest first.
        complete: whether the last one has arrived.
        on_arrival: called after each arrival, in the thread that happens to read.
    """

    __slots__ = ("arrived", "complete", "number", "on_arrival")

    def __init__(self, number: int) -> None:
        self.number = number
        self.arrived: deque[tuple[Any, ...]] = deque()
        self.complete = False
        self.on_arrival: Callable[[], None] | None = None


class ServerCalls:
    """Sends calls of the model to its server."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        #: Whether this is a fork of the process the server started.
        self.foreign = False
        os.register_at_fork(after_in_child=self._note_fork)
        # One that the same thread may take again: a sender that is collected amid a call says that its request ends.
        self._sending = threading.RLock()
        # Guards all below. One that the same thread may take again: what is collected amid a call may give up another.
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._sleepers = 0
        self._is_read = False
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._gone = False
        self._number = 0
        self._waiting: dict[int, Answers] = {}
        self._watching: dict[Any, int] = {}
        self._reader = FrameReader(self._take)
        #: Takes the output segments that the server looks at no more.
        self.on_released: Callable[[tuple[int, ...]], None] = lambda offsets: None
        #: Takes the answers to INFER that nobody reads.
        self.on_unwanted: Callable[[tuple[Any, ...]], None] = lambda answer: None

    def tell(self, *call: Any) -> None:
        """A call without an answer. Silent once the server is gone: the process is about to end."""
        frame = encode(call)
        with self._sending:
            try:
                self._connection.sendall(frame)
            except OSError:
                return

    def ask(self, kind: int, *arguments: Any) -> Any:
        """A call with one answer.

        Raises:
            TritonModelException: the server refused (its text says why), or this process is a fork of the model's.
        """
        _, _, outcome, value = self.wait(self.call(kind, *arguments))
        if outcome == FAILED:
            raise TritonModelException(value)
        return value

    def call(self, kind: int, *arguments: Any) -> Answers:
        """Start a call whose answers are waited for.

        Raises:
            TritonModelException: this process is a fork of the model's.
        """
        if self.foreign:
            raise TritonModelException("only the process that the server started may ask it, not a fork of it")
        with self._lock:
            self._number = number = self._number + 1
            answers = self._waiting[number] = Answers(number)
        self.tell(kind, number, *arguments)
        return answers

    def wait(self, answers: Answers) -> tuple[Any, ...]:
        """The next answer, which is waited for.

        Raises:
            TritonModelException: the server is gone.
        """
        lock = self._lock
        with lock:
            while not answers.arrived:
                if self._gone:
                    raise TritonModelException("the server is gone")
                if self._is_read:
                    self._sleepers += 1
                    try:
                        self._turn.wait()
                    finally:
                        self._sleepers -= 1
                    continue
                self._is_read = True
                lock.release()
                try:
                    size = self._receive(0)
                finally:
                    lock.acquire()
                    self._is_read = False
                    if self._sleepers:
                        self._turn.notify_all()
                self._feed(size)
            return answers.arrived.popleft()

    async def wait_in_loop(self, answers: Answers) -> tuple[Any, ...]:
        """The next answer, waited for on the running event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        thread = threading.get_ident()
        arrival = loop.create_future()

        def wake() -> None:
            if not arrival.done():
                arrival.set_result(None)

        def on_arrival() -> None:
            if threading.get_ident() == thread:
                wake()
            else:
                loop.call_soon_threadsafe(wake)

        self._watch(loop)
        try:
            with self._lock:
                answers.on_arrival = on_arrival
                if answers.arrived or self._gone:
                    wake()
            await arrival
        finally:
            answers.on_arrival = None
            self._unwatch(loop)
        return self.wait(answers)

    def poll(self) -> None:
        """Take in what has arrived, without waiting for anything."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            while not (self._is_read or self._gone):
                size = self._receive(socket.MSG_DONTWAIT)
                if size is None:
                    return
                self._feed(size)
        finally:
            if self._sleepers:
                self._turn.notify_all()
            self._lock.release()

    def forget(self, answers: Answers) -> None:
        """Nobody will read the rest of the answers."""
        with self._lock:
            self._waiting.pop(answers.number, None)
            while answers.arrived:
                self.on_unwanted(answers.arrived.popleft())

    def _watch(self, loop: Any) -> None:
        with self._lock:
            self._watching[loop] = self._watching.get(loop, 0) + 1
        if self._watching[loop] == 1:
            loop.add_reader(self._connection.fileno(), self.poll)

    def _unwatch(self, loop: Any) -> None:
        with self._lock:
            self._watching[loop] -= 1
            last = not self._watching[loop]
            if last:
                del self._watching[loop]
        if last:
            loop.remove_reader(self._connection.fileno())

    def _receive(self, flags: int) -> int | None:
        """How much has arrived in the buffer; 0 once the server is gone, None where waiting for it is not wanted."""
        try:
            return self._connection.recv_into(self._buffer, 0, flags)
        except BlockingIOError:
            return None
        except OSError:
            return 0

    def _feed(self, size: int | None) -> None:
        if size:
            self._reader.feed(self._buffer[:size])
            return
        self._gone = True
        for answers in self._waiting.values():
            if answers.on_arrival is not None:
                answers.on_arrival()

    def _note_fork(self) -> None:
        self.foreign = True

    def _take(self, message: tuple[Any, ...]) -> None:
        if message[0] == RELEASED:
            self.on_released(message[1])
            return
        if len(message) > _RELEASED_SEGMENTS and message[_RELEASED_SEGMENTS]:
            self.on_released(message[_RELEASED_SEGMENTS])
        answers = self._waiting.get(message[0])
        if answers is None:
            self.on_unwanted(message)
            return
        if message[1]:
            answers.complete = True
            del self._waiting[answers.number]
        answers.arrived.append(message)
        if answers.on_arrival is not None:
            answers.on_arrival()


_current: ServerCalls | None = None


def connect(connection: socket.socket) -> None:
    """Set the connection that the whole process uses."""
    global _current
    _current = ServerCalls(connection)


def server() -> ServerCalls:
    """The connection. Raises TritonModelException in a process the server did not start (one forked by a model)."""
    if _current is None:
        raise TritonModelException("there is no server: this process was not started by one")
    return _current
