"""Request targets to endpoints: which call a path names, for which model and version."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

import msgspec


class Route(msgspec.Struct, frozen=True):
    """Where a path leads.

    Attributes:
        endpoint: the endpoint's name, "" for a path that leads nowhere.
        model: the model in the path, percent-decoded; "" where there is none.
        version: digits, or "" when the path names no version.
        repository: the repository in a repository path; "" where there is none.
        region: the region in a shared memory path; "" where there is none.
    """

    endpoint: str
    model: str = ""
    version: str = ""
    repository: str = ""
    region: str = ""


_FIXED = {
    "/v2": "server_metadata",
    "/v2/health/live": "live",
    "/v2/health/ready": "ready",
    "/v2/models/stats": "statistics",
    "/v2/logging": "logging",
    "/v2/trace/setting": "trace",
}
_MODEL = re.compile(
    r"/v2/models/([^/]+)(?:/versions/([0-9]+))?(?:/(infer|generate|generate_stream|ready|config|stats))?"
)
_MODEL_ENDPOINTS = {
    None: "model_metadata",
    "infer": "infer",
    "generate": "generate",
    "generate_stream": "generate_stream",
    "ready": "model_ready",
    "config": "model_config",
    "stats": "statistics",
}
_MODEL_TRACE = re.compile(r"/v2/models/([^/]+)/trace/setting")
_REPOSITORY_INDEX = re.compile(r"/v2/repository(?:/([^/]+))?/index")
_REPOSITORY_MODEL = re.compile(r"/v2/repository(?:/([^/]+))?/models/([^/]+)/(load|unload)")
_SHARED_MEMORY = re.compile(r"/v2/(system|cuda)sharedmemory(?:/region/([^/]+))?/(status|register|unregister)")


@lru_cache(maxsize=4096)
def resolve(target: bytes) -> Route:
    """The route of a request target (path with optional query, which is ignored)."""
    path = target.decode("latin-1").partition("?")[0]
    fixed = _FIXED.get(path)
    if fixed is not None:
        return Route(fixed)
    if match := _MODEL.fullmatch(path):
        return Route(_MODEL_ENDPOINTS[match[3]], unquote(match[1]), match[2] or "")
    if match := _MODEL_TRACE.fullmatch(path):
        return Route("trace", unquote(match[1]))
    if match := _REPOSITORY_INDEX.fullmatch(path):
        return Route("repository_index", repository=match[1] or "")
    if match := _REPOSITORY_MODEL.fullmatch(path):
        return Route(f"model_{match[3]}", unquote(match[2]), repository=match[1] or "")
    if match := _SHARED_MEMORY.fullmatch(path):
        return Route(f"{match[1]}_memory_{match[3]}", region=unquote(match[2] or ""))
    return Route("")
