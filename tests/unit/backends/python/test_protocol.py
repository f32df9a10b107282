"""Frames: however the stream is cut, the same messages come out, and what is no message is refused."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conch.backends.python.channel import Channel
from conch.backends.python.stub.conch_stub.protocol import FrameReader, encode

from .conftest import run, until

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=200),
    lambda children: st.lists(children).map(tuple) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(st.lists(VALUES.map(lambda value: (value,)), max_size=5), st.integers(1, 40))
def test_messages_survive_any_cutting_of_the_stream(messages: list[tuple[Any, ...]], step: int) -> None:
    stream = b"".join(encode(message) for message in messages)
    received: list[Any] = []
    reader = FrameReader(received.append)
    for start in range(0, len(stream), step):
        reader.feed(stream[start : start + step])
    assert received == messages


def test_messages_that_arrive_together_are_all_handed_on() -> None:
    received: list[Any] = []
    FrameReader(received.append).feed(encode((1,)) + encode((2, "x")) + encode((3,)))
    assert received == [(1,), (2, "x"), (3,)]


def test_a_message_larger_than_the_sockets_buffers_arrives_whole_and_in_order() -> None:
    async def body() -> None:
        ours, theirs = socket.socketpair()
        received: list[Any] = []
        sender = Channel(ours, received.append, lambda: None)
        receiver = Channel(theirs, received.append, lambda: None)
        sender.send((1, bytes(5_000_000)))
        sender.send((2,))
        await until(lambda: len(received) == 2)
        assert received == [(1, bytes(5_000_000)), (2,)]
        sender.close()
        receiver.close()

    run(body())


@pytest.mark.parametrize("rubbish", [b"\x05\x00\x00\x00rubbi", b"\x01\x00\x00\x00?", b"\x04\x00\x00\x00(\xff\xff\xff"])
def test_rubbish_ends_a_channel(rubbish: bytes) -> None:
    async def body() -> None:
        ours, theirs = socket.socketpair()
        ended: list[str] = []
        channel = Channel(ours, ended.append, lambda: ended.append("ended"))
        theirs.send(rubbish)
        await until(lambda: ended)
        assert ended == ["ended"]
        channel.send((1,))
        channel.close()
        theirs.close()

    run(body())


def test_a_channel_says_once_that_the_other_side_is_gone() -> None:
    async def body() -> None:
        ours, theirs = socket.socketpair()
        ended: list[int] = []
        channel = Channel(ours, ended.append, lambda: ended.append(1))
        theirs.close()
        channel.send((1, bytes(1_000_000)))
        await until(lambda: ended)
        await asyncio.sleep(0)
        assert ended == [1]

    run(body())
