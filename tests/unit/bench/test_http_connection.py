"""The HTTP client against a server that sends exactly what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from conch.bench.channel import Answer, Channel, Channels
from conch.bench.http_connection import HttpConnection

REQUEST = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Use = Callable[[Channel], Awaitable[None]]


def with_server(serve: Serve, use: Use, timeout_s: float = 20) -> None:
    """Run `use` with a channel to a server whose connections `serve` handles."""

    async def work() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                return  # the client has gone
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()

        async def dial() -> HttpConnection:
            return (await loop.create_connection(HttpConnection, "127.0.0.1", port))[1]

        channel = Channel(dial, timeout_s)
        try:
            await use(channel)
        finally:
            channel.close()
            server.close()
            await server.wait_closed()

    asyncio.run(work())


def answering(*pieces: bytes) -> Serve:
    """Each request is answered with these pieces, one write each."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readexactly(len(REQUEST))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

    return serve


def ask(serve: Serve, timeout_s: float = 20) -> Answer:
    answers: list[Answer] = []

    async def use(channel: Channel) -> None:
        answers.append(await channel.ask(REQUEST))

    with_server(serve, use, timeout_s)
    return answers[0]


def test_an_answer_in_pieces_is_put_together() -> None:
    assert ask(answering(OK[:10], OK[10:-3], OK[-3:])) == Answer(body=b"hello")


def test_a_chunked_answer_is_put_together() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    assert ask(answering(chunked)).body == b"hello"


def test_the_length_of_the_json_head_is_read_whatever_its_spelling() -> None:
    answer = ask(answering(OK.replace(b"Content-Length", b"inference-HEADER-content-length: 3\r\nContent-Length")))
    assert answer.head_bytes == 3


def test_the_servers_error_is_the_text() -> None:
    refusal = b'HTTP/1.1 503 Unavailable\r\nContent-Length: 26\r\n\r\n{"error":"the queue is full"}'
    answer = ask(answering(refusal.replace(b"26", b"29")))
    assert (answer.error, answer.lost) == ("503: the queue is full", False)


def test_an_error_that_is_no_json_is_shown_as_it_is() -> None:
    assert ask(answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope")).error == "404: nope"


def test_a_connection_that_ends_before_the_answer_is_lost() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(REQUEST))

    answer = ask(hang_up)
    assert answer.lost
    assert "the server closed the connection" in answer.error


def test_an_answer_that_is_no_http_is_lost() -> None:
    answer = ask(answering(b"SSH-2.0-OpenSSH_9.2\r\n"))
    assert answer.lost
    assert "the answer is not HTTP" in answer.error


def test_a_server_that_does_not_answer_is_given_up() -> None:
    answer = ask(answering(), timeout_s=0.05)
    assert answer == Answer("no answer within 0.05 s", lost=True)


def test_connections_are_kept_and_made_again_when_the_server_closes_them() -> None:
    connections: list[int] = []

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        for closing in (b"", b"Connection: close\r\n"):
            await reader.readexactly(len(REQUEST))
            writer.write(OK.replace(b"Content", closing + b"Content"))
            await writer.drain()

    async def use(channel: Channel) -> None:
        for _ in range(4):
            assert (await channel.ask(REQUEST)).body == b"hello"

    with_server(twice, use)
    assert len(connections) == 2


def test_a_port_nobody_listens_on_is_told_for_every_request() -> None:
    async def work() -> None:
        async def dial() -> HttpConnection:
            raise ConnectionRefusedError(111, "Connection refused")

        channel = Channel(dial, 20)
        answers = await asyncio.gather(*(channel.ask(REQUEST) for _ in range(2)))
        assert answers == [Answer("[Errno 111] Connection refused", lost=True)] * 2
        channel.close()

    asyncio.run(work())


def test_a_server_that_hangs_up_at_once_does_not_make_the_client_spin() -> None:
    dials: list[int] = []

    async def work() -> None:
        async def dial() -> HttpConnection:
            dials.append(1)
            return HttpConnection()  # never connected: not usable

        channel = Channel(dial, 20)
        assert (await channel.ask(REQUEST)).error == "the server closed the connection at once"
        channel.close()

    asyncio.run(work())
    assert len(dials) == 1


def test_lanes_share_a_connection_as_far_as_it_carries_them() -> None:
    async def dial() -> HttpConnection:
        return HttpConnection()

    channels = Channels(dial, lanes=6, timeout_s=20)
    lanes = [channels.lane(index) for index in range(13)]
    assert [lanes.index(lane) for lane in lanes] == [0] * 6 + [6] * 6 + [12]
    channels.close()
