"""Responses of a decoupled model on their way to a client that reads fast, slowly or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import pytest

from conch.core.queue import RequestFuture
from conch.errors import BackendError, ConchError, UnavailableError
from conch.inference import InferResponse
from conch.wire.grpc import streamed
from conch.wire.grpc.calls import Parts
from conch.wire.grpc.outcome import RpcError, Status
from conch.wire.grpc.stream_call import StreamCall
from conch.wire.grpc.streamed import StreamedAnswer

LAST = InferResponse("m", "1", "last", ())


class Client:
    """Stands for the stream: takes messages while it has room; `read` makes room for those that wait."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.has_room = True
        self._read = asyncio.Event()

    def send_now(self, parts: Parts) -> None:
        message = b"".join(parts)
        if message == b"too large":
            raise RpcError(Status.RESOURCE_EXHAUSTED, "too large a message")
        self.messages.append(message)

    async def send(self, parts: Parts) -> None:
        if not self.has_room:
            await self._read.wait()
        self.send_now(parts)

    def read(self) -> None:
        self.has_room = True
        self._read.set()


class Streamed:
    """A request whose answers go to a client."""

    def __init__(self, pause: Callable[[], Awaitable[None]] | None = None) -> None:
        self.client = Client()
        self.given_up = False
        self.future = RequestFuture(loop=asyncio.get_running_loop())
        self.future.on_cancel = self._on_cancel
        answer = StreamedAnswer(cast(StreamCall, self.client), self.future, self._encode, self._encode_last, pause)
        self.last = asyncio.ensure_future(answer.last())

    def _on_cancel(self) -> None:
        self.given_up = True

    @staticmethod
    def _encode(response: InferResponse | ConchError) -> Parts:
        return [response.message.encode() if isinstance(response, ConchError) else response.id.encode()]

    def _encode_last(self, response: InferResponse) -> Parts | None:
        return None if response.empty else self._encode(response)

    def respond(self, text: str) -> None:
        assert self.future.on_response is not None
        self.future.on_response(InferResponse("m", "1", text, ()))

    def settle(self, outcome: InferResponse | ConchError = LAST) -> None:
        if isinstance(outcome, ConchError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)
        assert self.future.on_settled is not None
        self.future.on_settled(self.future)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 100))


def test_responses_are_sent_at_once_the_last_one_too() -> None:
    async def work() -> None:
        request = Streamed()
        request.respond("one")
        request.respond("two")
        assert request.client.messages == [b"one", b"two"]
        request.settle()
        assert request.client.messages == [b"one", b"two", b"last"]
        assert await request.last is None

    run(work())


def test_an_end_that_says_nothing_is_not_sent() -> None:
    async def work() -> None:
        request = Streamed()
        request.respond("one")
        request.settle(InferResponse("m", "1", "", (), empty=True))
        assert await request.last is None
        assert request.client.messages == [b"one"]

    run(work())


def test_a_last_response_that_is_too_large_is_returned_for_whoever_tells_the_client() -> None:
    async def work() -> None:
        request = Streamed()
        request.settle(InferResponse("m", "1", "too large", ()))
        last = await request.last
        assert last is not None
        assert last.id == "too large"
        assert request.client.messages == []

    run(work())


def test_responses_wait_in_their_order_for_a_slow_client() -> None:
    async def work() -> None:
        request = Streamed()
        await asyncio.sleep(0)
        request.client.has_room = False
        for text in ("one", "two", "three"):
            request.respond(text)
        request.settle()
        await asyncio.sleep(0)
        assert request.client.messages == []
        request.client.read()
        assert await request.last is LAST
        assert request.client.messages == [b"one", b"two", b"three"]

    run(work())


def test_a_client_that_never_reads_loses_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "_MAX_WAITING_BYTES", 10)

    async def work() -> None:
        request = Streamed()
        await asyncio.sleep(0)
        request.client.has_room = False
        for _ in range(3):
            request.respond("12345")
        assert request.given_up
        request.client.read()
        with pytest.raises(UnavailableError, match="has not read 10 bytes"):
            await request.last

    run(work())


def test_a_response_that_is_too_large_ends_the_stream_and_the_request() -> None:
    async def work() -> None:
        request = Streamed()
        await asyncio.sleep(0)
        request.respond("too large")
        with pytest.raises(RpcError, match="too large a message"):
            await request.last
        assert request.given_up

    run(work())


def test_an_error_at_the_end_is_raised_after_the_responses() -> None:
    async def work() -> None:
        request = Streamed()
        request.respond("one")
        request.settle(BackendError("over"))
        with pytest.raises(BackendError, match="over"):
            await request.last
        assert request.client.messages == [b"one"]

    run(work())


def test_a_client_that_goes_away_gives_the_request_up() -> None:
    async def work() -> None:
        request = Streamed()
        await asyncio.sleep(0)
        request.last.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request.last
        assert request.given_up

    run(work())


def test_responses_that_are_held_up_go_out_one_after_the_other_the_last_one_too() -> None:
    async def body() -> None:
        turns: asyncio.Queue[None] = asyncio.Queue()
        streamed = Streamed(pause=turns.get)
        streamed.respond("1")
        streamed.respond("2")
        streamed.settle()
        await asyncio.sleep(0)
        assert streamed.client.messages == []
        for count in (1, 2):
            turns.put_nowait(None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert streamed.client.messages == [b"1", b"2"][:count]
        assert not streamed.last.done()
        turns.put_nowait(None)
        assert await streamed.last == LAST

    run(body())
