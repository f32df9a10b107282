"""The metrics port."""

from __future__ import annotations

import asyncio
import http.client

from conch.wire.http.server import MetricsOptions, MetricsServer
from tests.unit.wire.http.harness import Answer, request

_TEXT = b"# HELP nv_x y\nnv_x 1\n"


def _ask(*requests: tuple[str, str]) -> list[Answer]:
    """Answers to requests on one connection."""

    def client(port: int) -> list[Answer]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            return [request(connection, method, path) for method, path in requests]
        finally:
            connection.close()

    async def page() -> bytes:
        return _TEXT

    async def run() -> list[Answer]:
        server = MetricsServer(page, MetricsOptions(host="127.0.0.1", port=0))
        await server.start()
        try:
            return await asyncio.to_thread(client, server.port)
        finally:
            await server.drain(5)

    return asyncio.run(run())


def test_metrics_are_text_in_utf8() -> None:
    (answer,) = _ask(("GET", "/metrics"))
    assert (answer.status, answer.body) == (200, _TEXT)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_other_paths_and_methods_are_refused() -> None:
    wrong_path, wrong_method, *right = _ask(
        ("GET", "/metricsx"), ("POST", "/metrics"), ("GET", "/metrics?x=1"), ("GET", "/metrics/")
    )
    assert (wrong_path.status, wrong_path.body) == (404, b"")
    assert (wrong_method.status, wrong_method.error) == (405, "Method Not Allowed")
    assert [answer.body for answer in right] == [_TEXT, _TEXT]
