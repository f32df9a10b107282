"""Inference over HTTP: forms of inputs and outputs, as Triton 2.51 answers them."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from conch.errors import InvalidArgumentError, RejectedError
from conch.inference import SEQUENCE_START, RequestedOutput
from conch.tensor import DataType, Tensor, decode_bytes_elements
from conch.wire.http.server import HttpOptions, HttpServer
from tests.unit.wire.http.fake_server import FakeServer
from tests.unit.wire.http.harness import Served, binary_request, request, serving


def _json_input(datatype: str, shape: list[int], data: object) -> dict[str, Any]:
    return {"inputs": [{"name": "INPUT0", "datatype": datatype, "shape": shape, "data": data}]}


def _binary_input(datatype: str, shape: list[int], size: int) -> list[dict[str, Any]]:
    return [{"name": "INPUT0", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}]


def _infer(served: Served, model: str, body: object, headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = served.post(f"/v2/models/{model}/infer", body, headers)
    assert answer.status == 200, answer
    document: dict[str, Any] = answer.json
    return document


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("BOOL", [True, False], [True, False]),
        ("INT8", [300, -1], [44, -1]),
        ("UINT8", [300, 1], [44, 1]),
        ("INT16", [-5, 5], [-5, 5]),
        ("UINT16", [0, 65535], [0, 65535]),
        ("INT32", [-(2**31), 2**31 - 1], [-(2**31), 2**31 - 1]),
        ("UINT32", [0, 2**32 - 1], [0, 2**32 - 1]),
        ("INT64", [-(2**63), 2**63 - 1], [-(2**63), 2**63 - 1]),
        ("UINT64", [0, 2**64 - 1], [0, 2**64 - 1]),
        ("FP32", [0.1, 1], [0.10000000149011612, 1.0]),
        ("FP64", [0.1, 1e300], [0.1, 1e300]),
        ("BYTES", ["a", 'é"\\\n\u0001/'], ["a", 'é"\\\n\u0001/']),
    ],
)
def test_json_elements_come_back_as_triton_returns_them(
    served: Served, datatype: str, data: list[object], expected: list[object]
) -> None:
    document = _infer(served, f"id_{datatype}", _json_input(datatype, [2], data))
    assert document == {
        "model_name": f"id_{datatype}",
        "model_version": "1",
        "outputs": [{"name": "OUTPUT0", "datatype": datatype, "shape": [2], "data": expected}],
    }


def test_nested_and_uneven_data_is_read_in_row_major_order(served: Served) -> None:
    for data in ([[1, 2], [3, 4]], [1, [2, [3]], 4], [[[[1, 2, 3, 4]]]]):
        document = _infer(served, "id_INT32", _json_input("INT32", [2, 2], data))
        assert document["outputs"][0]["data"] == [1, 2, 3, 4]


def test_not_a_number_and_infinity_travel_both_ways(served: Served) -> None:
    body = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[4],"data":[NaN,Infinity,-Infinity,1e39]}]}'
    answer = served.post("/v2/models/id_FP32/infer", body)
    assert b'"data":[NaN,Infinity,-Infinity,Infinity]' in answer.body


def test_bytes_that_are_not_utf8_are_written_as_they_are(served: Served) -> None:
    body, headers = binary_request(_binary_input("BYTES", [1], 6), b"\2\0\0\0\xff\xfe")
    answer = served.post("/v2/models/id_BYTES/infer", body, headers)
    assert answer.status == 200
    assert b'"data":["\xff\xfe"]' in answer.body


def test_bytes_that_are_not_utf8_are_read_as_they_are(served: Served) -> None:
    answer = served.post(
        "/v2/models/id_BYTES/infer",
        b'{"id":"\xff","inputs":[{"name":"INPUT0","datatype":"BYTES","shape":[1],"data":["\xff\xfe"]}]}',
    )
    assert answer.status == 200
    assert answer.body.startswith(b'{"id":"\xff",')
    assert b'"data":["\xff\xfe"]' in answer.body


def test_empty_tensors_need_no_data_in_them(served: Served) -> None:
    for data in ([], [1], 5):
        assert _infer(served, "id_FP32", _json_input("FP32", [0], data))["outputs"][0]["data"] == []


def test_binary_input_and_output(served: Served) -> None:
    tail = struct.pack("<2f", 1, 2)
    body, headers = binary_request(
        _binary_input("FP32", [2], 8), tail, outputs=[{"name": "OUTPUT0", "parameters": {"binary_data": True}}]
    )
    answer = served.post("/v2/models/id_FP32/infer", body, headers)
    head_bytes = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.body[head_bytes:] == tail
    assert answer.body[:head_bytes] == (
        b'{"model_name":"id_FP32","model_version":"1","outputs":[{"name":"OUTPUT0","datatype":"FP32","shape":[2],'
        b'"parameters":{"binary_data_size":8}}]}'
    )


def test_binary_inputs_are_views_of_the_body_in_input_order(own_served: Served) -> None:
    entries = [
        {"name": name, "datatype": "INT32", "shape": [1, 512], "parameters": {"binary_data_size": 2048}}
        for name in ("INPUT0", "INPUT1")
    ]
    body, headers = binary_request(entries, b"a" * 2048 + b"b" * 2048)
    assert own_served.post("/v2/models/simple/infer", body, headers).status == 200
    (seen,) = own_served.fake.requests
    assert [bytes(tensor.data) for tensor in seen.inputs] == [b"a" * 2048, b"b" * 2048]
    views = [tensor.data for tensor in seen.inputs]
    assert all(isinstance(view, memoryview) for view in views)
    assert len({id(view.obj) for view in views if isinstance(view, memoryview)}) == 1


@pytest.mark.parametrize(("parameters", "binary"), [({"binary_data_output": True}, True), ({}, False)])
def test_binary_data_output_is_the_form_of_outputs_not_listed(
    served: Served, parameters: dict[str, object], binary: bool
) -> None:
    answer = served.post("/v2/models/id_FP32/infer", {**_json_input("FP32", [1], [1]), "parameters": parameters})
    assert ("inference-header-content-length" in answer.headers) is binary


def test_binary_data_output_does_not_count_for_listed_outputs(served: Served) -> None:
    body = {
        **_json_input("FP32", [1], [1]),
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "OUTPUT0"}],
    }
    assert _infer(served, "id_FP32", body)["outputs"][0]["data"] == [1.0]


def test_empty_binary_outputs_leave_the_reply_plain_json(served: Served) -> None:
    body = {**_json_input("FP32", [0], []), "parameters": {"binary_data_output": True}}
    answer = served.post("/v2/models/id_FP32/infer", body)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["outputs"][0]["parameters"] == {"binary_data_size": 0}


def test_mixed_forms_of_outputs(served: Served) -> None:
    entries = [{"name": name, "datatype": "INT32", "shape": [1, 2], "data": [1, 2]} for name in ("INPUT0", "INPUT1")]
    outputs = [{"name": "OUTPUT0"}, {"name": "OUTPUT1", "parameters": {"binary_data": True}}]
    answer = served.post("/v2/models/simple/infer", {"inputs": entries, "outputs": outputs})
    head_bytes = int(answer.headers["inference-header-content-length"])
    described = json.loads(answer.body[:head_bytes])["outputs"]
    assert described[0]["data"] == [1, 2]
    assert described[1]["parameters"] == {"binary_data_size": 8}
    assert answer.body[head_bytes:] == struct.pack("<2i", 1, 2)


def test_everything_in_the_head_reaches_the_server(own_served: Served) -> None:
    body = {
        "id": "abc",
        "parameters": {"sequence_id": 7, "sequence_start": True, "priority": 2, "timeout": 5, "own": "x"},
        **_json_input("FP32", [1], [1]),
        "outputs": [{"name": "OUTPUT0", "parameters": {"classification": 3}}, {"name": "OUTPUT0"}],
        "unknown": 1,
    }
    document = _infer(own_served, "id_FP32/versions/1", body)
    assert list(document) == ["id", "model_name", "model_version", "outputs"]
    assert document["id"] == "abc"
    (seen,) = own_served.fake.requests
    assert (seen.model_name, seen.model_version, seen.id) == ("id_FP32", "1", "abc")
    assert (seen.correlation_id, seen.flags, seen.priority, seen.timeout_us) == (7, SEQUENCE_START, 2, 5)
    assert seen.parameters == {"own": "x"}
    assert seen.outputs == (RequestedOutput("OUTPUT0", 3, {"classification": 3}),)


def test_classification_replaces_the_output(served: Served) -> None:
    entries = [
        {"name": name, "datatype": "INT32", "shape": [2, 3], "data": [1, 3, 2, 6, 5, 4]}
        for name in ("INPUT0", "INPUT1")
    ]
    outputs = [{"name": "OUTPUT0", "parameters": {"classification": 2}}, {"name": "OUTPUT1"}]
    document = _infer(served, "simple", {"inputs": entries, "outputs": outputs})
    assert document["outputs"][0] == {
        "name": "OUTPUT0",
        "datatype": "BYTES",
        "shape": [2, 2],
        "data": ["3:1:one", "2:2", "6:0:zero", "5:1:one"],
    }
    assert document["outputs"][1]["data"] == [1, 3, 2, 6, 5, 4]


def test_a_raw_request_is_the_only_input(own_served: Served) -> None:
    raw = {"Inference-Header-Content-Length": "0"}
    answer = own_served.post("/v2/models/id_FP32/infer", b"12345678", raw)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.body.endswith(b"12345678")
    assert own_served.post("/v2/models/batched/infer", b"1234", raw).status == 200
    assert own_served.post("/v2/models/one_string/infer", b"hello", raw).status == 200
    assert own_served.post("/v2/models/id_FP32/infer", b"", raw).status == 200
    assert [(r.inputs[0].shape, bytes(r.inputs[0].data)) for r in own_served.fake.requests] == [
        ((2,), b"12345678"),
        ((1, 1), b"1234"),
        ((1,), b"\5\0\0\0hello"),
        ((0,), b""),
    ]


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("elements", [2, 100_000])
def test_compressed_bodies_both_ways(served: Served, coding: str, compress: Any, elements: int) -> None:
    tail = np.random.default_rng(0).standard_normal(elements).astype(np.float32).tobytes()
    body, headers = binary_request(
        _binary_input("FP32", [elements], len(tail)), tail, parameters={"binary_data_output": True}
    )
    headers |= {"Content-Encoding": coding, "Accept-Encoding": coding}
    answer = served.post("/v2/models/id_FP32/infer", compress(body), headers)
    assert answer.headers["content-encoding"] == coding
    plain = zlib.decompress(answer.body, 47)
    assert plain[int(answer.headers["inference-header-content-length"]) :] == tail


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate, gzip", "deflate"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("identity, gzip", None),
        ("br", None),
        ("*", None),
        ("GZIP", None),
        ("gzip;q=0", None),
        ("gzip;q=x", None),
        ("gzip; q=1", None),
    ],
)
def test_the_accepted_coding_is_chosen_as_triton_does(served: Served, accept: str, coding: str | None) -> None:
    answer = served.post("/v2/models/id_FP32/infer", _json_input("FP32", [1], [1]), {"Accept-Encoding": accept})
    assert answer.status == 200
    assert answer.headers.get("content-encoding") == coding


def test_errors_of_the_server_become_replies(own_served: Served) -> None:
    body = _json_input("FP32", [1], [1])
    own_served.call(lambda: setattr(own_served.fake, "failure", RejectedError("Exceeds maximum queue size")))
    answer = own_served.post("/v2/models/id_FP32/infer", body)
    assert (answer.status, answer.error) == (503, "Exceeds maximum queue size")


def test_an_unforeseen_error_is_a_500_that_names_no_internals(
    own_served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    own_served.call(lambda: setattr(own_served.fake, "failure", RuntimeError("secret")))
    answer = own_served.post("/v2/models/id_FP32/infer", _json_input("FP32", [1], [1]))
    assert (answer.status, answer.error) == (500, "internal server error: RuntimeError; see the server's log")
    assert "secret" in caplog.text
    own_served.call(lambda: setattr(own_served.fake, "failure", None))
    assert own_served.post("/v2/models/id_FP32/infer", _json_input("FP32", [1], [1])).status == 200


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_have_no_json_form(served: Served, datatype: str) -> None:
    answer = served.post(f"/v2/models/id_{datatype}/infer", _json_input(datatype, [1], [1]))
    assert (answer.status, answer.error) == (
        400,
        f"receiving {datatype} data via JSON is not supported. Please use the binary data format for input INPUT0",
    )
    body, headers = binary_request(_binary_input(datatype, [1], 2), b"12")
    answer = served.post(f"/v2/models/id_{datatype}/infer", body, headers)
    assert (answer.status, answer.error) == (
        400,
        f"sending {datatype} data via JSON is not supported. Please use the binary data format for output",
    )
    body, headers = binary_request(_binary_input(datatype, [1], 2), b"12", parameters={"binary_data_output": True})
    assert served.post(f"/v2/models/id_{datatype}/infer", body, headers).body.endswith(b"12")


def test_an_output_that_does_not_fit_its_shape_is_the_models_fault(own_served: Served) -> None:
    broken = (Tensor("OUTPUT0", DataType.FP32, (3,), b"1234"),)
    own_served.call(lambda: setattr(own_served.fake, "answer_with", broken))
    answer = own_served.post("/v2/models/id_FP32/infer", _json_input("FP32", [1], [1]))
    assert (answer.status, answer.error) == (
        500,
        "output tensor shape does not match size of output for 'OUTPUT0'",
    )


def test_headers_that_match_the_pattern_become_parameters() -> None:
    with serving(header_forward_pattern="x-.*") as served:
        body = {**_json_input("FP32", [1], [1]), "parameters": {"own": 1}}
        headers = {"X-Abc": "1", "x-def": "2", "ax-q": "3", "other": "4"}
        assert served.post("/v2/models/id_FP32/infer", body, headers).status == 200
        assert served.fake.requests[0].parameters == {"own": 1, "X-Abc": "1", "x-def": "2", "ax-q": "3"}


def test_a_header_pattern_that_is_no_regular_expression_is_refused_at_once() -> None:
    with pytest.raises(InvalidArgumentError, match=r"must be a regular expression, got '\('"):
        HttpServer(FakeServer(), HttpOptions(header_forward_pattern="("))


def test_tritons_own_client_is_answered(served: Served) -> None:
    client = InferenceServerClient(f"127.0.0.1:{served.port}")
    try:
        values = np.arange(32, dtype=np.int32).reshape(2, 16)
        for binary in (True, False):
            inputs = [InferInput(name, [2, 16], "INT32") for name in ("INPUT0", "INPUT1")]
            for tensor in inputs:
                tensor.set_data_from_numpy(values, binary_data=binary)
            outputs = [InferRequestedOutput("OUTPUT1", binary_data=binary)]
            for compression in (None, "gzip", "deflate"):
                result = client.infer(
                    "simple",
                    inputs,
                    request_id="7",
                    outputs=outputs,
                    request_compression_algorithm=compression,
                    response_compression_algorithm=compression,
                )
                np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), values)
                assert result.get_response()["id"] == "7"
        text = InferInput("INPUT0", [2], "BYTES")
        text.set_data_from_numpy(np.array([b"a\xff", b""], dtype=object))
        assert client.infer("id_BYTES", [text]).as_numpy("OUTPUT0").tolist() == [b"a\xff", b""]
        assert client.get_model_metadata("simple")["inputs"][0]["shape"] == [-1, 16]
        assert client.get_model_config("simple")["max_batch_size"] == 8
        assert client.is_server_ready()
        assert client.is_model_ready("simple")
        assert not client.is_model_ready("nope")
        client.load_model("simple")
        client.unload_model("simple")
        assert client.get_model_repository_index()[0]["name"] == "a"
    finally:
        client.close()


def test_large_tensors_arrive_and_leave_whole(served: Served) -> None:
    elements = 3_000_000
    tail = np.arange(elements, dtype=np.int32).tobytes()
    body, headers = binary_request(
        _binary_input("INT32", [elements], len(tail)), tail, parameters={"binary_data_output": True}
    )
    connection = served.connect()
    try:
        for _ in range(2):
            answer = request(connection, "POST", "/v2/models/id_INT32/infer", body, headers)
            assert answer.status == 200
            assert answer.body[int(answer.headers["inference-header-content-length"]) :] == tail
    finally:
        connection.close()


def test_bytes_elements_reach_the_model_encoded(own_served: Served) -> None:
    assert own_served.post("/v2/models/id_BYTES/infer", _json_input("BYTES", [2], ["é", ""])).status == 200
    (tensor,) = own_served.fake.requests[0].inputs
    assert decode_bytes_elements(tensor.data, 2) == ["é".encode(), b""]
