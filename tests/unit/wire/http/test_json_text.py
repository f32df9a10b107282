"""The JSON dialect: what msgspec refuses and Triton takes, and offsets in bytes."""

from __future__ import annotations

import math

import pytest

from conch.errors import InternalError
from conch.wire.http.json_text import decode_json, encode_json


def test_plain_json_is_decoded_from_any_buffer() -> None:
    for text in (b'{"a":[1,2.5,"x",null,true]}', memoryview(b'{"a":[1,2.5,"x",null,true]}')):
        assert decode_json(text) == {"a": [1, 2.5, "x", None, True]}


def test_not_a_number_is_decoded_and_encoded() -> None:
    value = decode_json(b"[NaN,Infinity,-Infinity]")
    assert isinstance(value, list)
    assert math.isnan(value[0])
    assert value[1:] == [math.inf, -math.inf]
    assert encode_json(value, non_finite=True) == b"[NaN,Infinity,-Infinity]"


def test_bytes_that_are_not_utf8_survive() -> None:
    assert encode_json(decode_json(b'["\xff\xc3\xa9"]')) == b'["\xff\xc3\xa9"]'


def test_the_offset_of_an_error_counts_bytes() -> None:
    with pytest.raises(InternalError, match=r"Missing a comma or \] after an array element\. at 6"):
        decode_json('["é" 1]'.encode())


def test_brackets_inside_strings_are_no_brackets() -> None:
    with pytest.raises(InternalError, match="Missing a comma or } after an object member"):
        decode_json(b'{"[":1 "b":2}')
    with pytest.raises(InternalError, match=r"Missing a comma or \] after an array element"):
        decode_json(b'[{"a":{}}, 1 2]')


def test_a_byte_order_mark_is_skipped() -> None:
    assert decode_json(b"\xef\xbb\xbf[1]") == [1]


def test_a_nul_byte_ends_the_document() -> None:
    assert decode_json(b"[1]\0\0\0\0rest") == [1]
    with pytest.raises(InternalError, match=r"Missing a closing quotation mark in string\. at 3"):
        decode_json(b'["a\0b"]')
