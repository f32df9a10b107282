"""Compressed request and response bodies over HTTP."""

from __future__ import annotations

import gzip
import json
import zlib

from ..messages import HttpRequest
from .build import get, infer, infer_binary, int32, post, scenarios, simple

BODY = json.dumps(simple()).encode()


def encoded(body: bytes, encoding: str, **headers: str) -> HttpRequest:
    return infer("simple", None, binary=body, headers={"Content-Encoding": encoding, **headers})


def accepting(encoding: str) -> HttpRequest:
    return infer("simple", simple(), headers={"Accept-Encoding": encoding})


def squeeze(body: bytes) -> bytes:
    """gzip without a time stamp, the same bytes on every run."""
    return gzip.compress(body, mtime=0)


def raw_deflate(body: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-15)
    return squeezer.compress(body) + squeezer.flush()


BINARY_JSON = json.dumps(
    {
        "inputs": [
            {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "parameters": {"binary_data_size": 64}},
            {"name": "INPUT1", "datatype": "INT32", "shape": [1, 16], "parameters": {"binary_data_size": 64}},
        ]
    }
).encode()
BINARY_BODY = BINARY_JSON + int32([1] * 32)

SCENARIOS = scenarios(
    gzip_request=encoded(squeeze(BODY), "gzip"),
    deflate_request=encoded(zlib.compress(BODY), "deflate"),
    raw_deflate_request=encoded(raw_deflate(BODY), "deflate"),
    deflate_announced_but_gzip_sent=encoded(squeeze(BODY), "deflate"),
    gzip_announced_but_deflate_sent=encoded(zlib.compress(BODY), "gzip"),
    gzip_announced_but_plain_sent=encoded(BODY, "gzip"),
    gzip_cut_short=encoded(squeeze(BODY)[:-20], "gzip"),
    gzip_with_more_behind=encoded(squeeze(BODY) + b"more", "gzip"),
    gzip_of_nothing=encoded(squeeze(b""), "gzip"),
    gzip_of_bad_json=encoded(squeeze(b"{nope"), "gzip"),
    gzip_in_chunks=infer("simple", None, binary=squeeze(BODY), headers={"Content-Encoding": "gzip"}, chunked=20),
    gzip_request_and_response=encoded(squeeze(BODY), "gzip", **{"Accept-Encoding": "gzip"}),
    gzip_of_json_and_binary=encoded(
        squeeze(BINARY_BODY), "gzip", **{"Inference-Header-Content-Length": str(len(BINARY_JSON))}
    ),
    deflate_of_json_and_binary=encoded(
        zlib.compress(BINARY_BODY), "deflate", **{"Inference-Header-Content-Length": str(len(BINARY_JSON))}
    ),
    identity_request=encoded(BODY, "identity"),
    unknown_encoding=encoded(BODY, "br"),
    gzip_in_upper_case=encoded(squeeze(BODY), "GZIP"),
    two_encodings=encoded(squeeze(BODY), "gzip, deflate"),
    empty_encoding=encoded(BODY, ""),
    accept_gzip=accepting("gzip"),
    accept_deflate=accepting("deflate"),
    accept_gzip_and_deflate=accepting("gzip, deflate"),
    accept_deflate_and_gzip=accepting("deflate, gzip"),
    accept_with_weights=accepting("gzip;q=0.2, deflate;q=0.8"),
    accept_gzip_with_weight_zero=accepting("gzip;q=0"),
    accept_unknown=accepting("br"),
    accept_identity=accepting("identity"),
    accept_anything=accepting("*"),
    accept_gzip_in_upper_case=accepting("GZIP"),
    accept_gzip_among_unknown=accepting("br, zstd, gzip"),
    accept_nothing=accepting(""),
    accept_gzip_for_binary_outputs=infer(
        "simple", simple(parameters={"binary_data_output": True}), headers={"Accept-Encoding": "gzip"}
    ),
    accept_deflate_for_binary_outputs=infer_binary(
        "simple", simple(parameters={"binary_data_output": True}), b"", headers={"Accept-Encoding": "deflate"}
    ),
    accept_gzip_for_an_error=infer("nope", simple(), headers={"Accept-Encoding": "gzip"}),
    accept_gzip_for_a_bad_request=infer("simple", {}, headers={"Accept-Encoding": "gzip"}),
    accept_gzip_for_metadata=get("/v2", headers={"Accept-Encoding": "gzip"}),
    accept_gzip_for_config=get("/v2/models/simple/config", headers={"Accept-Encoding": "gzip"}),
    gzip_index_request=post(
        "/v2/repository/index", None, binary=squeeze(b'{"ready":true}'), headers={"Content-Encoding": "gzip"}
    ),
)
