"""Who may call what over HTTP: API keys and restricted APIs."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

import msgspec

from conch.config.restrictions import Restriction
from conch.wire.api_keys import KEY_MISSING, KEY_UNKNOWN, ApiKeys, presented_key
from conch.wire.http.messages import HttpRequest, Reply, error_reply
from conch.wire.http.router import Route

#: Endpoint of `router` -> the category it is restricted with.
CATEGORY_BY_ENDPOINT = {
    "live": "health",
    "ready": "health",
    "model_ready": "health",
    "server_metadata": "metadata",
    "model_metadata": "metadata",
    "infer": "inference",
    "generate": "inference",
    "generate_stream": "inference",
    "model_config": "model-config",
    "repository_index": "model-repository",
    "model_load": "model-repository",
    "model_unload": "model-repository",
    "statistics": "statistics",
    "trace": "trace",
    "logging": "logging",
} | {
    f"{kind}_memory_{call}": "shared-memory"
    for kind in ("system", "cuda")
    for call in ("status", "register", "unregister")
}

_CHALLENGE = "WWW-Authenticate: Bearer\r\n"


class Objection(msgspec.Struct, frozen=True):
    """Why a request is not let through; `headers` are lines of the reply that end in CRLF."""

    status: int
    message: str
    headers: str = ""


_MISSING = Objection(401, KEY_MISSING, _CHALLENGE)
_UNKNOWN = Objection(401, KEY_UNKNOWN, _CHALLENGE)


class Guard:
    """Refuses requests before anything else is looked at.

    Args:
        keys: those of which every request but one about health has to present one; None for no such rule.
        restrictions: category -> the header that opens it.
    """

    def __init__(self, keys: ApiKeys | None, restrictions: Mapping[str, Restriction]) -> None:
        self._keys = keys
        self._restricted: dict[str, tuple[bytes, bytes, Objection]] = {}
        for endpoint, category in CATEGORY_BY_ENDPOINT.items():
            if category in restrictions:
                restriction = restrictions[category]
                objection = Objection(403, f"This API is restricted, expecting header '{restriction.key}'")
                name = restriction.key.lower().encode()
                self._restricted[endpoint] = (name, restriction.value.encode(), objection)

    def refusal(self, request: HttpRequest, route: Route) -> Reply | None:
        """The reply to a request that is not let through, None for one that is."""
        objection = self.objection(request.headers, route.endpoint)
        return None if objection is None else error_reply(objection.status, objection.message, objection.headers)

    def objection(self, headers: Mapping[bytes, bytes], endpoint: str) -> Objection | None:
        """Why a request with these headers is not let through to an endpoint of `router`, None for one that is."""
        if self._keys is not None and CATEGORY_BY_ENDPOINT.get(endpoint) != "health":
            key = presented_key(headers.get(b"authorization", b""), headers.get(b"x-api-key", b""))
            if not key:
                return _MISSING
            if not self._keys.admit(key):
                return _UNKNOWN
        restricted = self._restricted.get(endpoint)
        if restricted is not None:
            name, value, objection = restricted
            if not hmac.compare_digest(headers.get(name, b""), value):
                return objection
        return None
