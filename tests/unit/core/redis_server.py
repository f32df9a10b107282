"""A Redis for tests: keys and values in a dict, and the ways a real one fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class RedisServer:
    """Speaks enough RESP for GET and SET.

    Attributes:
        values: what is stored.
        expiries: key -> seconds, for keys that were set with EX.
        commands: names of the commands that came, without those that set a connection up.
        refuses: answer every GET and SET with an error.
        silent: never answer GET and SET.
        all_gone: set while no client is connected.
    """

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.expiries: dict[bytes, int] = {}
        self.commands: list[str] = []
        self.passwords: list[bytes] = []
        self.refuses = False
        self.silent = False
        self.port = 0
        self.all_gone = asyncio.Event()
        self.all_gone.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.all_gone.clear()
        try:
            while line := await reader.readline():
                arguments: list[bytes] = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    arguments.append((await reader.readexactly(size + 2))[:-2])
                writer.write(self.answer(arguments))
        except ConnectionError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()
            if not self._writers:
                self.all_gone.set()

    def answer(self, arguments: list[bytes]) -> bytes:
        name = arguments[0].upper().decode()
        if name == "HELLO":
            if b"AUTH" in arguments:
                self.passwords.append(arguments[arguments.index(b"AUTH") + 2])
            return b"%1\r\n+proto\r\n:3\r\n"
        if name not in ("GET", "SET"):
            return b"+OK\r\n"
        self.commands.append(name)
        if self.silent:
            return b""
        if self.refuses:
            return b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
        if name == "SET":
            self.values[arguments[1]] = arguments[2]
            if b"EX" in arguments:
                self.expiries[arguments[1]] = int(arguments[arguments.index(b"EX") + 1])
            return b"+OK\r\n"
        value = self.values.get(arguments[1])
        return b"_\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)

    def close_connections(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def redis_server() -> AsyncIterator[RedisServer]:
    """A server on a free port of this machine."""
    state = RedisServer()
    server = await asyncio.start_server(state.serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        state.close_connections()
        await state.all_gone.wait()
