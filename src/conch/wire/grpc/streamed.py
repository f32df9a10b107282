"""One request on a stream whose model answers it any number of times."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from conch.core.queue import RequestFuture
from conch.errors import ConchError, UnavailableError
from conch.inference import InferResponse
from conch.wire.grpc.calls import Parts
from conch.wire.grpc.outcome import RpcError
from conch.wire.grpc.stream_call import StreamCall

#: What may wait for a client that reads more slowly than the model answers, before its request is given up.
_MAX_WAITING_BYTES = 256 << 20


class StreamedAnswer:
    """Sends responses as they come; those a slow client has not read yet wait, up to a bound.

    The last one is sent at once, too, so that no response to a later request of the stream overtakes it.

    Args:
        encode: makes the message of a response that is not the last one.
        encode_last: makes the message of the last one, None where it says nothing.
        pause: awaited before each response; None where nothing holds them up.
    """

    def __init__(
        self,
        call: StreamCall,
        future: RequestFuture,
        encode: Callable[[InferResponse | ConchError], Parts],
        encode_last: Callable[[InferResponse], Parts | None],
        pause: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._call = call
        self._future = future
        self._encode = encode
        self._encode_last = encode_last
        self._ended = False
        self._pause = pause
        self._waiting: deque[Parts] = deque()
        self._waiting_bytes = 0
        self._wake: asyncio.Future[None] | None = None
        future.on_response = self._on_response
        future.on_settled = self._on_settled

    async def last(self) -> InferResponse | None:
        """Send everything but the last response, which is returned, or None if it was sent already.

        Cancelling this gives the request up.

        Raises:
            ConchError: the request ended with an error.
            RpcError: a response is too large.
        """
        try:
            while True:
                while self._waiting:
                    parts = self._waiting.popleft()
                    self._waiting_bytes -= _size(parts)
                    if self._pause is not None:
                        await self._pause()
                    await self._call.send(parts)
                if self._future.cancelled():
                    raise UnavailableError(
                        f"the request was given up: its client has not read {_MAX_WAITING_BYTES} bytes of responses"
                    )
                if self._ended:
                    return None
                if self._future.done():
                    if self._pause is not None:
                        await self._pause()
                    return self._future.result()
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
        except BaseException:
            self._future.cancel()
            raise

    def _on_response(self, response: InferResponse | ConchError) -> None:
        parts = self._encode(response)
        if not self._waiting and self._call.has_room and self._pause is None:
            try:
                self._call.send_now(parts)
                return
            except RpcError:
                pass  # `last` runs into it as well, where it can be told
        self._waiting.append(parts)
        self._waiting_bytes += _size(parts)
        if self._waiting_bytes > _MAX_WAITING_BYTES:
            self._future.cancel()
        self._go_on()

    def _on_settled(self, future: asyncio.Future[InferResponse]) -> None:
        failed = future.cancelled() or future.exception() is not None
        if not failed and not self._waiting and self._call.has_room and self._pause is None:
            try:
                parts = self._encode_last(future.result())
                if parts is not None:
                    self._call.send_now(parts)
                self._ended = True
            except (ConchError, RpcError):
                pass  # whoever awaits `last` runs into it as well, where it can be told
        self._go_on()

    def _go_on(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _size(parts: Parts) -> int:
    return sum(map(len, parts))
