"""A Google Cloud Storage and an Azure Blob Storage for tests: listing and reading, over objects in a dict."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_ISO, _HTTP = "2024-01-01T00:00:00.000Z", "Mon, 01 Jan 2024 00:00:00 GMT"


class BlobServer:
    """One bucket or container.

    Attributes:
        objects: name -> content.
        downloads: the names that were read, in order.
    """

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}
        self.downloads: list[str] = []
        self.port = 0

    @contextmanager
    def running(self) -> Iterator[BlobServer]:
        httpd = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.port = httpd.server_address[1]
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            httpd.shutdown()
            thread.join()
            httpd.server_close()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                status, body, headers = server.answer(self.command, unquote(url.path), query)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Tests have their own records."""

        return Handler

    def answer(self, method: str, path: str, query: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers."""
        raise NotImplementedError

    def read(self, method: str, name: str) -> tuple[int, bytes, dict[str, str]]:
        content = self.objects.get(name)
        if content is None:
            return 404, b"", {}
        if method == "GET":
            self.downloads.append(name)
        return 200, content, {"ETag": f'"{_digest(content)}"', "Last-Modified": _HTTP}


class GoogleServer(BlobServer):
    """The JSON API of Google Cloud Storage."""

    def answer(self, method: str, path: str, query: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        prefix = f"/storage/v1/b/{self.bucket}/o"
        if path.startswith(f"/download{prefix}/"):
            return self.read(method, path.removeprefix(f"/download{prefix}/"))
        if path == prefix:
            names = [name for name in sorted(self.objects) if name.startswith(query.get("prefix", ""))]
            return 200, json.dumps({"items": [self._item(name) for name in names]}).encode(), _JSON
        name = path.removeprefix(f"{prefix}/")
        if name not in self.objects:
            return 404, b'{"error": {"code": 404, "message": "not found"}}', _JSON
        return 200, json.dumps(self._item(name)).encode(), _JSON

    def _item(self, name: str) -> dict[str, str]:
        content = self.objects[name]
        digest = _digest(content)
        return {
            "name": name,
            "bucket": self.bucket,
            "size": str(len(content)),
            "etag": digest,
            "generation": str(int(digest[:8], 16)),
            "updated": _ISO,
            "timeCreated": _ISO,
        }


class AzureServer(BlobServer):
    """The blob service of Azure Storage, account `account`."""

    @property
    def connection_string(self) -> str:
        key = base64.b64encode(b"the key").decode()
        endpoint = f"http://127.0.0.1:{self.port}/account"
        return f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey={key};BlobEndpoint={endpoint};"

    def answer(self, method: str, path: str, query: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        name = path.removeprefix(f"/account/{self.bucket}").removeprefix("/")
        if name:
            status, body, headers = self.read(method, name)
            size = {"Content-Range": f"bytes 0-{len(body) - 1}/{len(body)}", "x-ms-blob-type": "BlockBlob"}
            return status, body, headers | size
        if query.get("comp") != "list":
            return 200, b"", {"ETag": '"x"', "Last-Modified": _HTTP}
        blobs = "".join(
            f"<Blob><Name>{escape(each)}</Name><Properties><Last-Modified>{_HTTP}</Last-Modified><Etag>"
            f"{_digest(content)}</Etag><Content-Length>{len(content)}</Content-Length><BlobType>BlockBlob</BlobType>"
            "</Properties></Blob>"
            for each, content in sorted(self.objects.items())
            if each.startswith(query.get("prefix", ""))
        )
        place = f'ServiceEndpoint="http://127.0.0.1:{self.port}/account" ContainerName="{self.bucket}"'
        page = f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults {place}><Blobs>{blobs}</Blobs><NextMarker />'
        return 200, f"{page}</EnumerationResults>".encode(), {"Content-Type": "application/xml"}


_JSON = {"Content-Type": "application/json"}


def _digest(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()
