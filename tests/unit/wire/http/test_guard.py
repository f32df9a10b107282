"""API keys, restricted APIs and TLS over HTTP."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from conch.config.restrictions import CATEGORIES, Restriction
from conch.errors import InvalidArgumentError
from conch.wire.api_keys import ApiKeys
from conch.wire.http.guard import CATEGORY_BY_ENDPOINT
from conch.wire.http.server import HttpOptions, make_api
from conch.wire.shared_memory import SharedMemoryRegions
from conch.wire.tls import TlsOptions
from tests.unit.wire.certificates import Pair, needs_openssl
from tests.unit.wire.http.fake_server import FakeServer
from tests.unit.wire.http.harness import Answer, Served, request, serving

_HEALTH = ("/v2/health/live", "/v2/health/ready", "/v2/models/simple/ready")


def get(served: Served, path: str, headers: Mapping[str, str]) -> Answer:
    connection = served.connect()
    try:
        return request(connection, "GET", path, headers=headers)
    finally:
        connection.close()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text("secret\nother\n")
    return file


@pytest.fixture
def keyed(key_file: Path) -> Iterator[Served]:
    with serving(keys=ApiKeys(key_file)) as served:
        yield served


def test_every_endpoint_has_a_category() -> None:
    endpoints = make_api(FakeServer(), HttpOptions(), SharedMemoryRegions(), None).table.keys()
    assert endpoints == CATEGORY_BY_ENDPOINT.keys()
    assert set(CATEGORY_BY_ENDPOINT.values()) == set(CATEGORIES)


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer secret"}, {"X-API-Key": "other"}])
def test_a_key_opens_everything(keyed: Served, headers: Mapping[str, str]) -> None:
    assert get(keyed, "/v2", headers).status == 200
    assert keyed.post("/v2/models/one_string/generate", {"INPUT0": "x"}, headers).status == 200


@pytest.mark.parametrize("path", ["/v2", "/v2/models/simple", "/v2/models/simple/config", "/v2/repository", "/nope"])
def test_without_a_key_nothing_but_health_is_answered(keyed: Served, path: str) -> None:
    answer = get(keyed, path, {})
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.error.startswith("an API key is needed: send it as 'Authorization: Bearer <key>'")
    for open_path in _HEALTH:
        assert get(keyed, open_path, {}).status == 200


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer no"}, {"X-API-Key": "secre"}, {"Authorization": "Bearer \xff"}]
)
def test_a_wrong_key_is_refused(keyed: Served, headers: Mapping[str, str]) -> None:
    answer = get(keyed, "/v2", headers)
    assert (answer.status, answer.error) == (401, "the API key is not one of this server's")


def test_refused_inference_does_not_reach_the_server(keyed: Served) -> None:
    assert keyed.post("/v2/models/one_string/generate", {"INPUT0": "x"}).status == 401
    assert keyed.fake.requests == []


def test_restricted_category_needs_its_header() -> None:
    restrictions = {"metadata": Restriction("Key-One", "one"), "inference": Restriction("two", "2")}
    with serving(restrictions=restrictions) as served:
        for path in ("/v2", "/v2/models/simple"):
            answer = get(served, path, {})
            assert (answer.status, answer.error) == (403, "This API is restricted, expecting header 'Key-One'")
            assert get(served, path, {"key-one": "two"}).status == 403
            assert get(served, path, {"KEY-ONE": "one"}).status == 200
        for call in ("infer", "generate", "generate_stream"):
            answer = served.post(f"/v2/models/simple/{call}", {})
            assert (answer.status, answer.error) == (403, "This API is restricted, expecting header 'two'")
        assert get(served, "/v2/models/simple/config", {}).status == 200


def test_restriction_is_told_before_a_wrong_method() -> None:
    with serving(restrictions={"inference": Restriction("k", "v")}) as served:
        assert served.get("/v2/models/simple/infer", "PUT").status == 403


def test_shared_memory_is_refused_where_it_is_not_allowed() -> None:
    with serving(regions=SharedMemoryRegions(allowed=False)) as served:
        answer = served.post("/v2/systemsharedmemory/region/r/register", {"key": "/x", "byte_size": 4})
        assert answer.status == 501
        assert "--allow-client-shm=false; send the tensors in the request" in answer.error
        assert served.get("/v2/systemsharedmemory/status").json == []


def call_with_tls(port: int, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
    try:
        connection.request(
            "POST", "/v2/models/id_UINT8/infer", b"x" * (1 << 20), {"Inference-Header-Content-Length": "0"}
        )
        reply = connection.getresponse()
        reply.read()
        return reply.status
    finally:
        connection.close()


@needs_openssl
def test_tls_serves_clients_that_trust_it(pairs: dict[str, Pair]) -> None:
    with serving(tls=TlsOptions(*pairs["server"])) as served:
        assert call_with_tls(served.port, ssl.create_default_context(cafile=pairs["root"].certificate)) == 200
        with pytest.raises(ssl.SSLError):
            call_with_tls(served.port, ssl.create_default_context(cafile=pairs["stranger"].certificate))


@needs_openssl
def test_mutual_tls_takes_only_clients_with_a_certificate(pairs: dict[str, Pair]) -> None:
    options = TlsOptions(*pairs["server"], root_certificate=pairs["root"].certificate, mutual=True)
    with serving(tls=options) as served:
        context = ssl.create_default_context(cafile=pairs["root"].certificate)
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            call_with_tls(served.port, context)
        context.load_cert_chain(*pairs["client"])
        assert call_with_tls(served.port, context) == 200


@needs_openssl
def test_plain_text_client_is_turned_away(pairs: dict[str, Pair]) -> None:
    with serving(tls=TlsOptions(*pairs["server"])) as served:
        assert b"HTTP" not in served.exchange(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")


def test_missing_tls_files_are_named(tmp_path: Path) -> None:
    options = TlsOptions(tmp_path / "no.crt", tmp_path / "no.key")
    with pytest.raises(InvalidArgumentError, match=r"no\.crt.*expected PEM files"), serving(tls=options):
        pass
