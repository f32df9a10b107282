"""A server of canned answers: enough of the HTTP protocol for `conch infer`, without any of conch's own code."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StubServer:
    """Answers paths from `answers` (path -> (status, JSON)); requests it saw are in `requests`."""

    def __init__(self, answers: Mapping[str, tuple[int, Any]]) -> None:
        self.requests: list[tuple[str, dict[str, Any], bytes]] = []
        seen = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                head_size = int(self.headers.get("Inference-Header-Content-Length", len(body)))
                seen.append((self.path, json.loads(body[:head_size] or b"{}"), body[head_size:]))
                status, answer = answers.get(self.path, (404, {"error": f"Request for unknown model: {self.path}"}))
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _answer

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[StubServer]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join(timeout=60)
