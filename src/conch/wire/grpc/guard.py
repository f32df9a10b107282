"""Who may call what over gRPC: API keys and restricted protocols."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from conch.config.restrictions import Restriction
from conch.wire.api_keys import KEY_MISSING, KEY_UNKNOWN, ApiKeys, presented_key
from conch.wire.grpc.head import Metadata
from conch.wire.grpc.outcome import RpcError, Status

_METHODS = {
    "health": ("ServerLive", "ServerReady", "ModelReady"),
    "metadata": ("ServerMetadata", "ModelMetadata"),
    "inference": ("ModelInfer", "ModelStreamInfer"),
    "shared-memory": tuple(
        f"{kind}SharedMemory{call}" for kind in ("System", "Cuda") for call in ("Status", "Register", "Unregister")
    ),
    "model-config": ("ModelConfig",),
    "model-repository": ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    "statistics": ("ModelStatistics",),
    "trace": ("TraceSetting",),
    "logging": ("LogSettings",),
}

#: Path of a method -> the category it is restricted with.
CATEGORY_BY_PATH = {
    f"/inference.GRPCInferenceService/{method}": category
    for category, methods in _METHODS.items()
    for method in methods
} | {
    "/grpc.health.v1.Health/Check": "health",
    "/grpc.health.v1.Health/Watch": "health",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": "metadata",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "metadata",
}

#: What the names of keys are prefixed with in metadata.
_PREFIX = "triton-grpc-protocol-"


class Guard:
    """Refuses calls before their messages are looked at.

    Args:
        keys: those of which every call but one about health has to present one; None for no such rule.
        restrictions: category -> the metadata that opens it.
    """

    def __init__(self, keys: ApiKeys | None, restrictions: Mapping[str, Restriction]) -> None:
        self._keys = keys
        self._restricted: dict[str, tuple[str, bytes, RpcError]] = {}
        for path, category in CATEGORY_BY_PATH.items():
            if category in restrictions:
                name = _PREFIX + restrictions[category].key
                error = RpcError(Status.UNAVAILABLE, f"This protocol is restricted, expecting header '{name}'")
                self._restricted[path] = (name.lower(), restrictions[category].value.encode(), error)

    def refusal(self, path: str, metadata: Metadata) -> RpcError | None:
        """The error of a call that is not let through, None for one that is."""
        values = {name: value.encode("latin-1") for name, value in metadata if isinstance(value, str)}
        if self._keys is not None and CATEGORY_BY_PATH.get(path) != "health":
            key = presented_key(values.get("authorization", b""), values.get("x-api-key", b""))
            if not key:
                return RpcError(Status.UNAUTHENTICATED, KEY_MISSING)
            if not self._keys.admit(key):
                return RpcError(Status.UNAUTHENTICATED, KEY_UNKNOWN)
        restricted = self._restricted.get(path)
        if restricted is not None:
            name, value, error = restricted
            if not hmac.compare_digest(values.get(name, b""), value):
                return error
        return None
