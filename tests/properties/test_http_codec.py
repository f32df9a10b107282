"""HTTP inference codec: what goes in comes out, and no bytes whatever break the server."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conch.inference import InferResponse
from conch.tensor import DataType, Tensor, encode_bytes_elements
from conch.wire.http.infer_request import Target, decode_infer
from conch.wire.http.infer_response import encode_infer
from conch.wire.shared_memory import SharedMemoryRegions
from tests.unit.wire.http.fake_server import FakeServer
from tests.unit.wire.http.harness import Served, request, serving

_WITHOUT_JSON = {DataType.FP16, DataType.BF16}
_MODELS = FakeServer().models


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    datatype = draw(st.sampled_from(list(DataType)))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    count = math.prod(shape)
    if datatype is DataType.BYTES:
        elements = draw(st.lists(st.binary(max_size=6), min_size=count, max_size=count))
        return Tensor("INPUT0", datatype, shape, encode_bytes_elements(elements))
    if datatype is DataType.BOOL:
        data = bytes(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    else:
        data = draw(st.binary(min_size=count * datatype.item_bytes, max_size=count * datatype.item_bytes))
    return Tensor("INPUT0", datatype, shape, data)


def _request(tensor: Tensor, binary: bool) -> tuple[bytes, bytes]:
    """Body and header length of a request with that input, asking for the output in the same form."""
    view = _MODELS[f"id_{tensor.datatype.value}"]
    response = InferResponse(view.config.name, "1", "", (tensor,))
    asked = json.dumps({"inputs": [], "parameters": {"binary_data_output": binary}}).encode()
    decoded = decode_infer(Target(view, "", SharedMemoryRegions()), asked, None, {})
    reply = encode_infer(response, decoded.request, decoded.forms, view)
    text, *tails = (bytes(part) for part in reply.parts)
    # Outputs and inputs are described in the same way.
    assert len(text) + sum(map(len, tails)) == reply.length
    head = text.replace(b'"outputs":', b'"inputs":', 1)
    return head + b"".join(tails), str(len(head)).encode()


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if a.datatype not in (DataType.FP32, DataType.FP64):
        return bytes(a.data) == bytes(b.data)
    return bool(np.array_equal(a.as_numpy(), b.as_numpy(), equal_nan=True))  # JSON knows one NaN only


@given(tensor=tensors(), binary=st.booleans())
def test_a_tensor_encoded_as_output_is_decoded_as_the_same_input(tensor: Tensor, binary: bool) -> None:
    if not binary and tensor.datatype in _WITHOUT_JSON:
        binary = True
    body, header = _request(tensor, binary)
    view = _MODELS[f"id_{tensor.datatype.value}"]
    (decoded,) = decode_infer(Target(view, "", SharedMemoryRegions()), body, header, {}).request.inputs
    assert (decoded.name, decoded.datatype, decoded.shape) == (tensor.name, tensor.datatype, tensor.shape)
    assert _same_bits(decoded, tensor)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(max_input_bytes=1 << 16) as running:
        yield running


_LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
_PARAMETERS = _VALUES | st.dictionaries(
    st.sampled_from(["binary_data_size", "shared_memory_region", "classification", "binary_data", "sequence_id"]),
    _VALUES,
)
_DATATYPES = st.sampled_from([datatype.value for datatype in DataType])
_TENSORS = _VALUES | st.fixed_dictionaries(
    {},
    optional={
        "name": _VALUES | st.just("INPUT0"),
        "datatype": _VALUES | _DATATYPES,
        "shape": _VALUES | st.lists(st.integers(0, 3), max_size=2),
        "data": _VALUES,
        "parameters": _PARAMETERS,
    },
)
_DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "id": _VALUES,
        "parameters": _PARAMETERS,
        "inputs": _VALUES | st.lists(_TENSORS, max_size=2),
        "outputs": _VALUES | st.lists(_TENSORS, max_size=2),
    },
)
_BODIES = st.binary(max_size=200) | st.builds(
    lambda document, cut, tail: json.dumps(document).encode()[:cut] + tail,
    _DOCUMENTS,
    st.none() | st.integers(0, 200),
    st.binary(max_size=9),
)
_HEADERS = st.dictionaries(
    st.sampled_from(["Inference-Header-Content-Length", "Content-Encoding", "Accept-Encoding"]),
    st.sampled_from(["0", "1", "20", "-1", "x", "", "gzip", "deflate", "identity", "gzip;q=0.5"]),
)


@settings(max_examples=150)
@given(body=_BODIES, headers=_HEADERS)
def test_any_body_gets_a_json_error_or_an_answer_and_the_server_lives(
    served: Served, body: bytes, headers: dict[str, str]
) -> None:
    connection = served.connect()
    try:
        answer = request(connection, "POST", "/v2/models/id_FP32/infer", body, headers)
        if answer.status != 200:
            assert 400 <= answer.status < 600
            assert not answer.error.startswith("internal server error")
        assert request(connection, "GET", "/v2/health/live").status == 200
    finally:
        connection.close()


_LINES = st.sampled_from(
    [
        b"POST /v2/models/id_FP32/infer HTTP/1.1\r\n",
        b"GET /v2 HTTP/1.0\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\nConnection: upgrade\r\n",
        b"Connection: close\r\n",
        b"\r\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
    ]
)


@settings(max_examples=100)
@given(sent=st.binary(min_size=1) | st.lists(_LINES).map(b"".join).filter(bool))
def test_any_bytes_on_a_connection_leave_the_server_alive(served: Served, sent: bytes) -> None:
    with served.socket() as connection:
        connection.sendall(sent)
    assert served.get("/v2/health/live").status == 200


def test_a_binary_request_of_every_datatype_is_answered(served: Served) -> None:
    for datatype in DataType:
        data = struct.pack("<I", 0) if datatype is DataType.BYTES else b"\0" * datatype.item_bytes
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": "INPUT0",
                        "datatype": datatype.value,
                        "shape": [1],
                        "parameters": {"binary_data_size": len(data)},
                    }
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        answer = served.post(f"/v2/models/id_{datatype.value}/infer", head + data, headers)
        assert (answer.status, answer.body.endswith(data)) == (200, True)
