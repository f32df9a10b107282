"""A protocol steps aside until a buffer is full, and hears of everything else meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from conch.wire.placed_reader import PlacedReader


class Transport(asyncio.Transport):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.protocols: list[asyncio.BaseProtocol] = []
        self.reading: list[bool] = []
        self.closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocols.append(protocol)

    def pause_reading(self) -> None:
        self.reading.append(False)

    def resume_reading(self) -> None:
        self.reading.append(True)

    def is_closing(self) -> bool:
        return self.closing


class Protocol(asyncio.Protocol):
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append(("lost", exc))

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")

    def eof_received(self) -> bool:
        self.heard.append("eof")
        return True


@pytest.fixture
def transport() -> Transport:
    return Transport()


def receive(reader: PlacedReader, data: bytes) -> None:
    buffer = reader.get_buffer(-1)
    buffer[: len(data)] = data
    reader.buffer_updated(len(data))


def test_bytes_lie_in_their_place_and_the_protocol_is_back_once_all_are_there(transport: Transport) -> None:
    protocol, events, memory = Protocol(), [], bytearray(6)
    reader = PlacedReader(
        transport, protocol, memoryview(memory), lambda: events.append("some"), lambda: events.append("full")
    )
    receive(reader, b"abcd")
    assert len(reader.get_buffer(-1)) == 2
    receive(reader, b"ef")
    assert bytes(memory) == b"abcdef"
    assert events == ["some", "some", "full"]
    assert transport.protocols == [reader, protocol]
    assert transport.reading == [False, True, False, True]


def test_everything_but_bytes_is_passed_on(transport: Transport) -> None:
    protocol = Protocol()
    reader = PlacedReader(transport, protocol, memoryview(bytearray(6)), lambda: None, lambda: None)
    reader.pause_writing()
    reader.resume_writing()
    assert reader.eof_received()
    reader.connection_lost(None)
    assert protocol.heard == ["pause", "resume", "eof", ("lost", None)]


def test_a_connection_that_is_closed_meanwhile_is_left_alone(transport: Transport) -> None:
    full: list[str] = []
    reader = PlacedReader(transport, Protocol(), memoryview(bytearray(3)), lambda: None, lambda: full.append("full"))
    transport.closing = True
    receive(reader, b"abc")
    assert not full
    assert transport.protocols == [reader]
