"""Looking header blocks up gives what decoding them again would."""

from __future__ import annotations

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hypothesis import given, settings
from hypothesis import strategies as st

from conch.wire.grpc.http2.frames import ConnectionFault
from conch.wire.grpc.http2.hpack_cache import Headers, HpackCache

NAMES = st.sampled_from([b":method", b":path", b"te", b"grpc-timeout", b"x-a", b"x-b"])
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([b"", b"POST", b"/a", b"1S", b"v" * 40])), min_size=1, max_size=5)


#: A few different header lists, sent again and again; now and then the encoder changes the size of its table.
CONVERSATIONS = st.lists(FIELDS, min_size=2, max_size=4).flatmap(
    lambda pool: st.lists(
        st.tuples(st.sampled_from(pool), st.sampled_from([None, None, None, None, 0, 50, 100, 4096])),
        min_size=8,
        max_size=30,
    )
)


@settings(max_examples=300)
@given(CONVERSATIONS)
def test_cache_agrees_with_hpack_on_what_an_encoder_sends(blocks: list[tuple[Headers, int | None]]) -> None:
    """Small tables evict all the time, table sizes change, and blocks repeat."""
    encoder, plain = Encoder(), Decoder()
    cache = HpackCache(list, 1 << 16)
    for fields, table_size in blocks:
        if table_size is not None:
            encoder.header_table_size = table_size
        block = encoder.encode(fields)
        assert cache.get(block) == [tuple(field) for field in plain.decode(block, raw=True)] == fields


@given(st.lists(st.one_of(st.binary(max_size=6), st.sampled_from([b"\xbe", b"\xbf\xbe", b"\x40\x01a\x01b"]))))
def test_cache_agrees_with_hpack_on_any_bytes(blocks: list[bytes]) -> None:
    """Up to the first block that is not HPACK, after which a connection ends."""
    plain = Decoder()
    cache = HpackCache(list, 1 << 16)
    for block in blocks:
        try:
            expected = [tuple(field) for field in plain.decode(block, raw=True)]
        except HPACKError:
            expected = None
        try:
            assert cache.get(block) == expected
        except ConnectionFault:
            assert expected is None
            return


@given(FIELDS)
def test_repeated_block_is_parsed_once(fields: Headers) -> None:
    parsed: list[Headers] = []

    def parse(headers: Headers) -> Headers:
        parsed.append(headers)
        return headers

    cache, encoder = HpackCache(parse, 1 << 16), Encoder()
    encoder.encode(fields)
    cache.get(Encoder().encode(fields))  # fills the table as the encoder's is filled
    block = encoder.encode(fields)  # nothing but indexed fields now
    for _ in range(5):
        assert cache.get(block) == fields
    assert len(parsed) <= 2
