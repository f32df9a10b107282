"""An S3 for tests: the few requests that reading a bucket takes, over objects in a dict."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_WHEN_ISO, _WHEN_HTTP = "2024-01-01T00:00:00.000Z", "Mon, 01 Jan 2024 00:00:00 GMT"


class S3Server:
    """One bucket.

    Attributes:
        objects: key -> content.
        downloads: the keys that were read, in order.
        keys: the access keys that requests were signed with.
        denies: answer everything with AccessDenied.
        page: how many keys a listing shows at once.
    """

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}
        self.downloads: list[str] = []
        self.keys: set[str] = set()
        self.denies = False
        self.page = 2
        self.port = 0

    @contextmanager
    def running(self) -> Iterator[S3Server]:
        httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.port = httpd.server_address[1]
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            httpd.shutdown()
            thread.join()
            httpd.server_close()

    def listing(self, query: dict[str, list[str]]) -> bytes:
        prefix = query.get("prefix", [""])[0]
        after = query.get("continuation-token", [""])[0]
        keys = [key for key in sorted(self.objects) if key.startswith(prefix) and key > after]
        shown = keys[: self.page]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_WHEN_ISO}</LastModified><ETag>{etag(self.objects[key])}"
            f"</ETag><Size>{len(self.objects[key])}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in shown
        )
        more = len(keys) > len(shown)
        token = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{self.bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(shown)}</KeyCount>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
        ).encode()


def etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _handler(server: S3Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            bucket, _, key = unquote(url.path).lstrip("/").partition("/")
            signed = self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
            server.keys.add(signed)
            if server.denies:
                self.answer(403, _error("AccessDenied"))
            elif bucket != server.bucket:
                self.answer(404, _error("NoSuchBucket"))
            elif not key:
                self.answer(200, server.listing(parse_qs(url.query)), {"Content-Type": "application/xml"})
            elif key not in server.objects:
                self.answer(404, _error("NoSuchKey"))
            else:
                content = server.objects[key]
                if self.command == "GET":
                    server.downloads.append(key)
                self.answer(200, content, {"ETag": etag(content), "Last-Modified": _WHEN_HTTP})

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Tests have their own records."""

    return Handler


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>told by the test</Message></Error>".encode()
