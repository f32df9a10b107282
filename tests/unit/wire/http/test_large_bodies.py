"""Large bodies with tensors are read where they are to lie, whatever else comes on the connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import numpy as np
import pytest
import uvloop

from conch.wire.tls import TlsOptions
from tests.unit.wire.certificates import Pair
from tests.unit.wire.http.harness import Served, binary_request, read_replies, serving

_DATA = np.arange(1 << 18, dtype=np.float32)


class Rooms:
    """Makes room on the heap and remembers it."""

    def __init__(self) -> None:
        self.made: list[memoryview] = []

    def allocate(self, size: int) -> memoryview:
        self.made.append(np.empty(size, np.uint8).data)
        return self.made[-1]


def post(data: bytes, path: str = "/v2/models/id_FP32/infer", *lines: str) -> bytes:
    shape = [len(data) // 4]
    entry = {"name": "INPUT0", "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": len(data)}}
    body, headers = binary_request([entry], data)
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, *(f"{name}: {value}" for name, value in headers.items())]).encode() + b"\r\n\r\n" + body


def last_input(served: Served) -> memoryview:
    data = served.fake.requests[-1].inputs[0].data
    assert isinstance(data, memoryview)
    return data


def being_placed(served: Served) -> bool:
    """Whether a body is being read to its place."""
    return any(each._reader._placed is not None for each in served.server.listener._connections)


@pytest.mark.parametrize("new_event_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_tensors_lie_in_the_room_that_was_made_for_the_body(
    new_event_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    rooms = Rooms()
    with serving(new_event_loop, allocate=rooms.allocate) as served, served.socket() as connection:
        for factor in (1, 2, 3):  # the first head is new, the others are known
            data = (_DATA * factor).tobytes()
            connection.sendall(post(data))
            assert b" 200 OK" in read_replies(connection, 1)
            assert last_input(served) == data
            assert last_input(served).obj is rooms.made[-1].obj
        assert len(rooms.made) == 3


def test_what_follows_a_large_body_is_read_as_ever() -> None:
    rooms = Rooms()
    with serving(allocate=rooms.allocate) as served, served.socket() as connection:
        large, small = post(_DATA.tobytes()), post(_DATA[:4].tobytes())
        connection.sendall(large + small + large + small)
        assert read_replies(connection, 4).count(b" 200 OK") == 4
        sizes = [len(request.inputs[0].data) for request in served.fake.requests]
        assert sizes == [_DATA.nbytes, 16, _DATA.nbytes, 16]


def test_an_upload_that_comes_to_a_halt_is_refused_and_its_rest_ignored() -> None:
    with serving() as served, served.socket() as connection:
        message = post(_DATA.tobytes())
        connection.sendall(message[: 1 << 19])
        served.wait_until(lambda: being_placed(served))
        served.sweep(61.0)
        assert b" 408 " in read_replies(connection, 1)
        connection.sendall(message[1 << 19 :] + message)
        assert not served.fake.requests
        assert served.get("/v2/health/live").status == 200


def test_a_client_that_vanishes_amid_a_large_body_leaves_nothing() -> None:
    with serving() as served:
        with served.socket() as connection:
            connection.sendall(post(_DATA.tobytes())[: 1 << 19])
            served.wait_until(lambda: being_placed(served))
        served.wait_until(lambda: served.server.listener.connection_count == 0)
        assert not served.fake.requests
        with served.socket() as connection:
            connection.sendall(post(_DATA.tobytes()))
            assert b" 200 OK" in read_replies(connection, 1)


@pytest.mark.parametrize(
    ("path", "lines"),
    [("/v2/repository/models/m/load", ()), ("/v2/models/id_FP32/infer", ("Content-Encoding: identity",))],
)
def test_bodies_that_are_no_tensors_or_coded_are_read_as_ever(path: str, lines: tuple[str, ...]) -> None:
    rooms = Rooms()
    with serving(allocate=rooms.allocate) as served, served.socket() as connection:
        connection.sendall(post(_DATA.tobytes(), path, *lines))
        assert read_replies(connection, 1)
        assert not rooms.made


def test_large_bodies_over_tls(pairs: dict[str, Pair]) -> None:
    rooms = Rooms()
    context = ssl.create_default_context(cafile=pairs["root"].certificate)
    with serving(tls=TlsOptions(*pairs["server"]), allocate=rooms.allocate) as served:
        with served.socket() as plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
            for _ in range(2):
                connection.sendall(post(_DATA.tobytes()) + post(_DATA[:4].tobytes()))
                assert read_replies(connection, 2).count(b" 200 OK") == 2
        assert [len(request.inputs[0].data) for request in served.fake.requests] == [_DATA.nbytes, 16] * 2
        assert served.fake.requests[2].inputs[0].data == _DATA.tobytes()
        assert len(rooms.made) == 2
