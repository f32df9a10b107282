"""What is asked, what is answered, and the golden file that keeps both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

#: How long to wait for an answer before the exchange counts as broken down.
PATIENCE_S = 60.0

GOLDEN_DIRECTORY = Path(__file__).parent / "golden"
MODELS_DIRECTORY = Path(__file__).parent / "models"


class HttpRequest(msgspec.Struct, frozen=True, tag="http", omit_defaults=True):
    """One raw HTTP request; the body is `text` in UTF-8 followed by `binary`.

    Attributes:
        port: "http" or "metrics".
        chunked: send the body with `Transfer-Encoding: chunked`, cut in pieces of this many bytes; 0 sends it whole.
    """

    method: str
    path: str
    headers: dict[str, str] = {}
    text: str = ""
    binary: bytes = b""
    port: str = "http"
    chunked: int = 0

    @property
    def body(self) -> bytes:
        return self.text.encode("utf-8", "surrogatepass") + self.binary


class GrpcRequest(msgspec.Struct, frozen=True, tag="grpc", omit_defaults=True):
    """One gRPC call.

    Attributes:
        method: a method of `inference.GRPCInferenceService`, or a full path starting with "/".
        messages: the request messages as proto3 JSON; a streaming call sends all of them and closes its side.
        raw: sent instead of `messages`, as the bytes of one message.
        timeout_s: the deadline the client gives the call.
    """

    method: str
    messages: list[dict[str, Any]] = []
    metadata: dict[str, str] = {}
    raw: bytes | None = None
    timeout_s: float = PATIENCE_S
    compression: str = ""


class Concurrent(msgspec.Struct, frozen=True, tag="concurrent", omit_defaults=True):
    """Requests in flight at the same time, each sent `interval_s` after the one before."""

    requests: list[HttpRequest | GrpcRequest]
    interval_s: float = 0.3


Request = HttpRequest | GrpcRequest | Concurrent


class Scenario(msgspec.Struct, frozen=True, omit_defaults=True):
    """A named request.

    Attributes:
        loose: parts of the answer that are not compared: "headers", "details", "body", or "order" (of JSON keys).
        settle: ask again until two answers in a row agree and no model is on its way up or down; statistics are
            counted, and models unloaded, a moment after the response is sent.
    """

    name: str
    request: Request
    loose: list[str] = []
    settle: bool = False


class HttpAnswer(msgspec.Struct, frozen=True, tag="http", omit_defaults=True):
    """Status, the headers that matter, and the body in the one form that fits it.

    Attributes:
        json: the JSON document the body is or starts with.
        binary: what follows the JSON document, or a body that is neither JSON nor text.
        lines: the lines of a metrics page, sorted.
        events: the JSON documents of a stream of server-sent events.
        failure: how the exchange broke down, if it did; then there is no answer. In a golden file it means that this
            request ends or stops a Triton.
    """

    status: int = 0
    headers: dict[str, str] = {}
    json: Any = msgspec.UNSET
    text: str = ""
    binary: bytes = b""
    lines: list[str] = []
    events: list[Any] = []
    failure: str = ""


class GrpcAnswer(msgspec.Struct, frozen=True, tag="grpc", omit_defaults=True):
    """The final status (a name such as "OK" or "NOT_FOUND") and every message received, as proto3 JSON.

    Attributes:
        failure: as in `HttpAnswer`.
    """

    code: str = ""
    details: str = ""
    messages: list[Any] = []
    failure: str = ""


class ConcurrentAnswer(msgspec.Struct, frozen=True, tag="concurrent"):
    """The answers, in the order of their requests."""

    answers: list[HttpAnswer | GrpcAnswer]


Answer = HttpAnswer | GrpcAnswer | ConcurrentAnswer


class ServerSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the server is started; groups with equal specifications share one process.

    Attributes:
        more_repositories: served beside the first one, each given by its name alone.
    """

    name: str
    repository: str
    flags: tuple[str, ...] = ()
    more_repositories: tuple[str, ...] = ()


class Group(msgspec.Struct, frozen=True):
    """Scenarios sent one after another, in this order, to one server."""

    name: str
    server: ServerSpec
    scenarios: list[Scenario]


class Exchange(msgspec.Struct, frozen=True):
    scenario: Scenario
    answer: Answer


class Golden(msgspec.Struct, frozen=True):
    """One golden file."""

    recorded_from: str
    server: ServerSpec
    exchanges: list[Exchange]


def load_golden(path: Path) -> Golden:
    return msgspec.json.decode(path.read_bytes(), type=Golden)


def save_golden(golden: Golden, path: Path) -> None:
    """Writes one exchange after another, indented, so that a diff shows which answer changed."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(golden), indent=1) + b"\n")
