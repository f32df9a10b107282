"""Frames, message framing and the wire format of requests, for any content and any cuts."""

from __future__ import annotations

import itertools
import struct
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from conch.tensor.memory import heap_memory
from conch.wire.grpc.http2 import frames
from conch.wire.grpc.http2.frames import ConnectionFault
from conch.wire.grpc.messages import MessageReader, frame_message
from conch.wire.grpc.outcome import RpcError, percent_encode
from conch.wire.grpc.wire_format import MalformedMessage, decode_varint, encode_varint, split_infer_request


@given(st.dictionaries(st.integers(7, 0xFFFF), st.integers(0, 2**32 - 1)))
def test_settings_round_trip(settings: dict[int, int]) -> None:
    frame = frames.encode_settings(settings)
    assert dict(frames.decode_settings(frame[frames.HEADER_BYTES :])) == settings


@given(st.binary(max_size=300), st.integers(1, 50), st.booleans())
def test_header_blocks_survive_being_cut(block: bytes, size: int, end: bool) -> None:
    sent = frames.encode_header_block(5, block, end, size)
    joined, flags, kinds = b"", [], []
    while sent:
        head, flag, stream_id = frames.HEADER.unpack_from(sent)
        assert stream_id == 5
        joined += sent[9 : 9 + (head >> 8)]
        flags.append(flag)
        kinds.append(head & 0xFF)
        sent = sent[9 + (head >> 8) :]
    assert joined == block
    assert kinds == [frames.HEADERS] + [frames.CONTINUATION] * (len(kinds) - 1)
    assert bool(flags[0] & frames.END_STREAM) is end
    assert [bool(flag & frames.END_HEADERS) for flag in flags] == [False] * (len(flags) - 1) + [True]


@given(st.binary(max_size=100), st.integers(0, 255))
def test_padding_is_stripped_or_refused(payload: bytes, padding: int) -> None:
    padded = bytes([padding]) + payload + bytes(padding)
    assert frames.strip_padding(padded, frames.PADDED) == payload
    assert frames.strip_padding(padded, 0) == padded
    if padding:
        with pytest.raises(ConnectionFault):
            frames.strip_padding(bytes([padding]) + bytes(padding - 1), frames.PADDED)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


CUTS = st.lists(st.integers(0, 10**6), max_size=20)


@given(st.lists(st.binary(max_size=200), max_size=10), CUTS, st.sampled_from(["identity", "gzip", "deflate"]))
def test_messages_are_read_whole_however_they_are_cut(messages: list[bytes], places: list[int], encoding: str) -> None:
    level = 0 if encoding == "identity" else 6
    stream = b"".join(b"".join(frame_message([message], encoding, level)[0]) for message in messages)
    reader = MessageReader(encoding, 1000, heap_memory)
    read = [bytes(message) for chunk in cut(stream, places) for message in reader.feed(chunk)]
    assert read == messages
    assert not reader.in_message


@given(st.binary(min_size=1, max_size=200), st.integers(0, 204))
def test_reader_says_how_much_is_missing(message: bytes, have: int) -> None:
    framed = b"".join(frame_message([message], "identity", 0)[0])
    have = min(have, len(framed) - 1)
    reader = MessageReader("identity", 1000, heap_memory)
    assert list(reader.feed(framed[:have])) == []
    missing = len(framed) - have
    assert reader.needed == (5 - have if have < 5 else missing)
    assert [bytes(one) for one in reader.feed(framed[have:])] == [message]


@given(st.integers(101, 2**32 - 1))
def test_announced_size_above_the_limit_is_refused_before_it_comes(size: int) -> None:
    with pytest.raises(RpcError, match="larger than max"):
        list(MessageReader("identity", 100, heap_memory).feed(b"\0" + struct.pack(">I", size)))


@given(st.integers(0, 2**64 - 1))
def test_varints_round_trip(value: int) -> None:
    encoded = encode_varint(value)
    assert decode_varint(b"x" + encoded, 1) == (value, 1 + len(encoded))
    with pytest.raises(MalformedMessage):
        decode_varint(encoded[:-1], 0)


@given(
    st.text(max_size=10),
    st.text(max_size=10),
    st.lists(st.binary(max_size=3000), max_size=4),
    st.lists(st.text(max_size=5), max_size=3),
)
def test_request_is_split_as_protobuf_would(model: str, request_id: str, raw: list[bytes], inputs: list[str]) -> None:
    request = pb.ModelInferRequest(model_name=model, id=request_id, raw_input_contents=raw)
    for name in inputs:
        request.inputs.add(name=name, shape=[1, 2])
    request.parameters["p"].string_param = model
    rest, found_id, found_raw = split_infer_request(request.SerializeToString())
    assert (found_id, [bytes(one) for one in found_raw]) == (request_id, raw)
    request.ClearField("id")
    request.ClearField("raw_input_contents")
    assert pb.ModelInferRequest.FromString(rest) == request


@given(st.binary(max_size=60))
def test_any_bytes_are_split_or_called_malformed(data: bytes) -> None:
    try:
        rest, _, raw = split_infer_request(data)
    except MalformedMessage:
        return
    assert len(rest) + sum(map(len, raw)) <= len(data)


@given(st.text(max_size=100))
def test_status_messages_are_printable_ascii_and_decode_to_themselves(message: str) -> None:
    encoded = percent_encode(message)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote(encoded.decode()) == message.encode("utf-8", "replace").decode()
