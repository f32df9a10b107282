"""Artificial delays of calls, for tests of clients: what Triton's variables `TRITONSERVER_DELAY_GRPC_...` ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from conch.errors import ConchError
from conch.tensor.tensor import Buffer
from conch.wire.grpc.calls import Parts, Pending
from conch.wire.grpc.dispatch import UnaryMethod
from conch.wire.grpc.head import Metadata

T = TypeVar("T")

#: Waits so many seconds.
Sleep = Callable[[float], Awaitable[object]]


class Delays(msgspec.Struct, frozen=True):
    """How long calls are held up, in seconds.

    Attributes:
        process_s: ModelInfer, before anything is done for it; a client may give it up meanwhile.
        response_s: each response of a decoupled model, before it is written to its stream.
        complete_s: each response on a stream, errors of models among them, as if the model had been slower to tell it.
        other_s: all calls without inference, before they are answered.
        sleep: how the time passes.
    """

    process_s: float = 0
    response_s: float = 0
    complete_s: float = 0
    other_s: float = 0
    sleep: Sleep = asyncio.sleep

    async def before_response(self) -> None:
        """Hold up a response of a decoupled model."""
        await self.sleep(self.complete_s + self.response_s)

    async def completed(self, answer: Awaitable[T]) -> T:
        """The only answer of a model to a request on a stream, or its error, `complete_s` later."""
        try:
            found = await answer
        except ConchError:
            await self.sleep(self.complete_s)
            raise
        await self.sleep(self.complete_s)
        return found


def late(method: UnaryMethod, delays: Delays) -> UnaryMethod:
    """The method, begun `process_s` later."""

    async def answer(message: Buffer, metadata: Metadata) -> Parts:
        await delays.sleep(delays.process_s)
        return await _answer(method, message, metadata)

    return UnaryMethod(method.path, lambda message, metadata: Pending(answer(message, metadata), _as_it_is))


def slow(method: UnaryMethod, delays: Delays) -> UnaryMethod:
    """The method, whose answer or error is told `other_s` later."""

    async def answer(message: Buffer, metadata: Metadata) -> Parts:
        try:
            return await _answer(method, message, metadata)
        finally:
            await delays.sleep(delays.other_s)

    return UnaryMethod(method.path, lambda message, metadata: Pending(answer(message, metadata), _as_it_is))


async def _answer(method: UnaryMethod, message: Buffer, metadata: Metadata) -> Parts:
    answer = method.handle(message, metadata)
    if isinstance(answer, Pending):
        return answer.encode(await answer.awaitable)
    return answer


def _as_it_is(parts: Any) -> Parts:
    return parts  # type: ignore[no-any-return]  # what `Pending` gives to `encode` is not typed
