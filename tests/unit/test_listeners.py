"""Which ports are opened for which options, and with which settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from conch.app import build_server
from conch.config.restrictions import Restriction
from conch.config.serve_options import ServeOptions
from conch.core.api import LogSettings
from conch.core.log_settings import LogControl
from conch.core.server import InferenceServer
from conch.errors import InvalidArgumentError
from conch.listeners import build_listeners, grpc_options, http_options, openai_options, vertex_obstacle
from conch.wire.tls import TlsOptions

T = TypeVar("T")


def with_server(options: ServeOptions, use: Callable[[InferenceServer], T]) -> T:
    """What a function makes of a server without models."""

    async def run() -> T:
        server = build_server(options, LogControl(LogSettings("", True, True, True, 0, "default")), [])
        try:
            return use(server)
        finally:
            await server.stop(timeout_s=1)

    return asyncio.run(run())


def names(options: ServeOptions) -> list[str]:
    return with_server(options, lambda server: list(build_listeners(server, options)))


def test_three_ports_are_opened_unless_asked_otherwise() -> None:
    assert names(ServeOptions()) == ["GRPCInferenceService", "HTTPService", "Metrics Service"]
    assert names(ServeOptions(allow_grpc=False, allow_metrics=False)) == ["HTTPService"]


def test_platforms_have_ports_of_their_own() -> None:
    options = ServeOptions(allow_sagemaker=True, allow_vertex_ai=True, allow_grpc=False, allow_metrics=False)
    assert names(options) == ["HTTPService", "Sagemaker HTTPService", "Vertex AI HTTPService"]


def test_the_api_of_openai_has_a_port_with_the_settings_of_http() -> None:
    options = ServeOptions(allow_openai=True, allow_grpc=False, allow_metrics=False)
    assert names(options) == ["HTTPService", "OpenAI HTTPService"]
    tls = ServeOptions(http_use_ssl=True, http_server_cert="c", http_server_key="k", http_address="::1", openai_port=5)
    assert openai_options(tls).tls == TlsOptions(Path("c"), Path("k"), None, False)
    assert (openai_options(tls).host, openai_options(tls).port) == ("::1", 5)
    assert openai_options(ServeOptions(openai_address="::2")).host == "::2"


def test_api_keys_that_cannot_be_read_keep_the_server_from_starting(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot read API keys"):
        names(ServeOptions(api_key_file=str(tmp_path / "none")))


@pytest.mark.parametrize("field", ["http_header_forward_pattern", "grpc_header_forward_pattern"])
def test_a_pattern_that_is_no_regular_expression_keeps_the_server_from_starting(field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"must be a regular expression, got '\['"):
        names(ServeOptions(**{field: "["}))


def test_vertex_needs_a_model() -> None:
    named = ServeOptions(vertex_ai_default_model="m")
    assert with_server(named, lambda server: vertex_obstacle(server, named)) == "Expect the default model 'm' is loaded"
    obstacle = with_server(ServeOptions(), lambda server: vertex_obstacle(server, ServeOptions()))
    assert "contains only a single model" in obstacle


def test_tls_of_each_protocol_is_its_own() -> None:
    options = ServeOptions(http_use_ssl_mutual=True, http_server_cert="c", http_server_key="k", http_root_cert="r")
    assert http_options(options).tls == TlsOptions(Path("c"), Path("k"), Path("r"), mutual=True)
    assert grpc_options(options).tls is None
    options = ServeOptions(grpc_use_ssl=True, grpc_server_cert="c", grpc_server_key="k")
    assert grpc_options(options).tls == TlsOptions(Path("c"), Path("k"))
    assert http_options(options).tls is None


def test_restrictions_of_each_protocol_are_its_own() -> None:
    rule = {"health": Restriction("k", "v")}
    assert http_options(ServeOptions(http_restricted_api=rule)).restrictions == rule
    assert grpc_options(ServeOptions(http_restricted_api=rule)).restrictions == {}
    assert grpc_options(ServeOptions(grpc_restricted_protocol=rule)).restrictions == rule
