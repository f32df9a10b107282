"""The response cache in a Redis that several servers share. Needs the package redis (`pip install 'conch[redis]'`).

Redis may be slow, full or gone: whatever goes wrong there is a miss here, and for a while nothing is asked of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from conch.config.cache_options import RedisCacheOptions
from conch.config.schema import ModelConfig
from conch.core.cache import CachedResponse
from conch.core.clock import Clock
from conch.core.repository import fingerprint
from conch.errors import UnsupportedError
from conch.inference import Parameter
from conch.tensor import Tensor
from conch.tensor.datatype import DATATYPE_BY_NAME

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

logger = logging.getLogger("conch.core.cache_redis")

#: Before every key; its number changes with the form of the values.
KEY_PREFIX = b"conch:response:1:"

#: Insertions under way at the same time; what comes while there are that many is not kept.
MOST_INSERTIONS = 64

#: How long Redis is left alone after a failure, doubled with each one that follows, and how often that is logged.
FIRST_PAUSE_S, LONGEST_PAUSE_S, WARNING_INTERVAL_S = 1.0, 30.0, 60.0

_NS = 1_000_000_000


class RedisCache:
    """Implements `conch.core.cache.ResponseCache`. Connects at the first request.

    Raises:
        UnsupportedError: the package redis is not installed.
    """

    def __init__(self, options: RedisCacheOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._redis, self._failures = _connect(options)
        self._connections = asyncio.Semaphore(options.pool_size)
        self._tasks: set[asyncio.Task[CachedResponse | None]] = set()
        self._insertions = 0
        self._pause_s = 0.0
        self._paused_until_ns = 0
        self._warn_after_ns = 0

    def namespace(self, config: ModelConfig, version: int, directory: Path) -> bytes:
        """Configuration, version, and names, sizes and times of the model's files: equal where servers share these.

        Ensembles answer with the files of other models; each load of one has a namespace of its own.
        """
        if config.platform == "ensemble":
            return secrets.token_bytes(16)
        digest = hashlib.sha256(config.message.SerializeToString(deterministic=True))
        digest.update(f"\0{version}\0{fingerprint(directory)}".encode())
        return digest.digest()

    def lookup(self, key: bytes, then: Callable[[CachedResponse | None], None]) -> None:
        """Call `then` when Redis has answered; at once while it is left alone."""
        if self._clock.monotonic_ns() < self._paused_until_ns:
            then(None)
            return
        task = self._start(self._look_up(key))
        task.add_done_callback(lambda done: then(None if done.cancelled() else done.result()))

    def insert(self, key: bytes, entry: CachedResponse) -> None:
        """Send it to Redis, unless that has more than enough to do."""
        if self._clock.monotonic_ns() < self._paused_until_ns or self._insertions >= MOST_INSERTIONS:
            return
        self._insertions += 1
        self._start(self._insert(key, entry)).add_done_callback(self._inserted)

    def _inserted(self, _: asyncio.Task[CachedResponse | None]) -> None:
        self._insertions -= 1

    async def close(self) -> None:
        """End lookups under way with None, drop insertions, and close the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redis.aclose()

    def _start(self, work: Coroutine[object, object, CachedResponse | None]) -> asyncio.Task[CachedResponse | None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _look_up(self, key: bytes) -> CachedResponse | None:
        value = await self._ask("look-up", lambda: self._redis.get(KEY_PREFIX + key))
        if not isinstance(value, bytes):  # None: texts come from clients that decode only
            return None
        try:
            return decode_entry(value)
        except (msgspec.MsgspecError, LookupError) as error:
            logger.warning("response cache: the value of key %s in Redis cannot be used: %s", key.hex(), error)
            return None

    async def _insert(self, key: bytes, entry: CachedResponse) -> None:
        try:
            value = encode_entry(entry)
        except (OverflowError, ValueError) as error:  # a number or text that MessagePack does not have
            logger.warning("response cache: a response cannot be kept in Redis: %s", error)
            return
        await self._ask("insertion", lambda: self._redis.set(KEY_PREFIX + key, value, ex=self._options.ttl or None))

    async def _ask(self, what: str, command: Callable[[], Awaitable[T]]) -> T | None:
        """The answer to a command; None when no connection becomes free in time, or when it fails."""
        try:
            async with asyncio.timeout(self._options.wait_timeout / 1000):
                await self._connections.acquire()
        except TimeoutError:
            return None
        try:
            answer = await command()
        except self._failures as error:
            self._failed(what, error)
            return None
        finally:
            self._connections.release()
        self._pause_s = 0.0
        return answer

    def _failed(self, what: str, error: Exception) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._paused_until_ns:  # of those that fail together only the first makes the pause longer
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S) or FIRST_PAUSE_S
            self._paused_until_ns = now_ns + round(self._pause_s * _NS)
        if now_ns >= self._warn_after_ns:
            self._warn_after_ns = now_ns + round(WARNING_INTERVAL_S * _NS)
            logger.warning(
                "response cache: %s in Redis at %s:%d failed: %s: %s; models are asked instead, Redis again in %.0f s",
                what,
                self._options.host,
                self._options.port,
                type(error).__name__,
                error,
                self._pause_s,
            )


def _connect(options: RedisCacheOptions) -> tuple[Redis, tuple[type[Exception], ...]]:
    """A client, and what its commands raise when Redis does not answer, or answers with an error."""
    try:
        from redis.asyncio import ConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
    except ImportError as error:
        raise UnsupportedError(
            f"the Redis cache needs the package redis: pip install 'conch[redis]' ({error})"
        ) from error
    pool = ConnectionPool(
        host=options.host,
        port=options.port,
        username=options.user or None,
        password=options.password or None,
        db=options.db,
        socket_connect_timeout=options.connect_timeout / 1000,
        socket_timeout=options.socket_timeout / 1000,
        max_connections=options.pool_size,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool), (RedisError, OSError)


class _StoredTensor(msgspec.Struct, frozen=True, array_like=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """An entry as Redis keeps it: MessagePack."""

    outputs: list[_StoredTensor]
    parameters: dict[str, bool | int | float | str]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


def encode_entry(entry: CachedResponse) -> bytes:
    """An entry as bytes."""
    outputs = [_StoredTensor(t.name, t.datatype.value, t.shape, bytes(t.data)) for t in entry.outputs]
    return _encoder.encode(_Stored(outputs, dict(entry.parameters)))


def decode_entry(value: bytes) -> CachedResponse:
    """The entry that those bytes are.

    Raises:
        msgspec.MsgspecError, LookupError: they are none.
    """
    stored = _decoder.decode(value)
    outputs = tuple(Tensor(t.name, DATATYPE_BY_NAME[t.datatype], t.shape, t.data) for t in stored.outputs)
    parameters: dict[str, Parameter] = dict(stored.parameters)
    return CachedResponse(outputs, parameters)
