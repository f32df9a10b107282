"""Every call but inference: health, metadata, configuration, statistics, repository, logging."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from conch.core.api import (
    LOG_FORMATS,
    DurationStat,
    LogSettings,
    ModelIndexEntry,
    ModelStatistics,
    ServerApi,
    TensorMetadata,
)
from conch.errors import InternalError, InvalidArgumentError, UnavailableError, UnsupportedError
from conch.wire.http.config_json import config_json
from conch.wire.http.json_text import decode_json
from conch.wire.http.messages import HttpRequest, Outcome, Pending, Reply, empty_reply, error_reply, json_reply
from conch.wire.http.router import Route
from conch.wire.http.trace_settings import TraceSettingsEndpoint

Endpoint = Callable[[HttpRequest, Route], Outcome]

_SETTING_TYPES: dict[str, type] = {
    "log_file": str,
    "log_info": bool,
    "log_warning": bool,
    "log_error": bool,
    "log_verbose_level": int,
    "log_format": str,
}
_TYPE_FAILURES: dict[type, str] = {
    str: "attempt to access JSON non-string as string",
    bool: "attempt to access JSON non-boolean as boolean",
    int: "attempt to access JSON non-unsigned-integer as unsigned-integer",
}


class Endpoints:
    """The calls by the endpoint names of `router` and HTTP method."""

    def __init__(self, server: ServerApi) -> None:
        self._server = server
        trace = TraceSettingsEndpoint(server)
        self.table: dict[str, dict[bytes, Endpoint]] = {
            "server_metadata": {b"GET": self.server_metadata},
            "live": {b"GET": self.live},
            "ready": {b"GET": self.ready},
            "model_ready": {b"GET": self.model_ready},
            "model_metadata": {b"GET": self.model_metadata},
            "model_config": {b"GET": self.model_config},
            "statistics": {b"GET": self.statistics},
            "repository_index": {b"POST": self.repository_index},
            "model_load": {b"POST": self.load},
            "model_unload": {b"POST": self.unload},
            "logging": {b"GET": self.log_settings, b"POST": self.update_log_settings},
            "trace": {b"GET": trace.get, b"POST": trace.post},
        }

    def live(self, request: HttpRequest, route: Route) -> Reply:
        return empty_reply(200 if self._server.is_live() else 400)

    def ready(self, request: HttpRequest, route: Route) -> Reply:
        return empty_reply(200 if self._server.is_ready() else 400)

    def model_ready(self, request: HttpRequest, route: Route) -> Outcome:
        return Pending(
            self._server.check_model_ready(route.model, route.version),
            lambda ready: empty_reply() if ready else error_reply(400, "Model version not ready"),
        )

    def server_metadata(self, request: HttpRequest, route: Route) -> Reply:
        metadata = self._server.metadata()
        return json_reply({"name": metadata.name, "version": metadata.version, "extensions": metadata.extensions})

    def model_metadata(self, request: HttpRequest, route: Route) -> Reply:
        metadata = self._server.model_metadata(route.model, route.version)
        return json_reply(
            {
                "name": metadata.name,
                "versions": metadata.versions,
                "platform": metadata.platform,
                "inputs": [_tensor_json(tensor) for tensor in metadata.inputs],
                "outputs": [_tensor_json(tensor) for tensor in metadata.outputs],
            }
        )

    def model_config(self, request: HttpRequest, route: Route) -> Reply:
        return json_reply(config_json(self._server.model(route.model, route.version).config.message))

    def statistics(self, request: HttpRequest, route: Route) -> Reply:
        statistics = self._server.statistics(route.model, route.version)
        return json_reply({"model_stats": [_statistics_json(entry) for entry in statistics]})

    def repository_index(self, request: HttpRequest, route: Route) -> Reply:
        ready = False
        if request.body:
            document = decode_json(request.body)
            if isinstance(document, dict):
                ready = _typed(document.get("ready", False), bool)
        return json_reply([_index_json(entry) for entry in self._server.repository_index(ready)])

    def load(self, request: HttpRequest, route: Route) -> Outcome:
        _refuse_repository(route)
        config: str | None = None
        files: dict[str, bytes] = {}
        for name, value in _parameters(request).items():
            text = _typed(value, str)
            if name == "config":
                config = text
            elif name.startswith("file:"):
                files[name.removeprefix("file:")] = _base64(name, text)
            else:
                raise InternalError("unexpected error on creating Triton parameter")
        return _then_empty(self._server.load_model(route.model, config, files))

    def unload(self, request: HttpRequest, route: Route) -> Outcome:
        _refuse_repository(route)
        # As in Triton, what is no boolean counts as false.
        unload_dependents = _parameters(request).get("unload_dependents") is True
        return _then_empty(self._server.unload_model(route.model, unload_dependents))

    def log_settings(self, request: HttpRequest, route: Route) -> Reply:
        return json_reply(_log_settings_json(self._server.log_settings()))

    def update_log_settings(self, request: HttpRequest, route: Route) -> Reply:
        document = decode_json(request.body)
        settings: Mapping[str, Any] = document if isinstance(document, dict) else {}
        changes: dict[str, bool | int | str] = {
            name: _typed(settings[name], kind)
            for name, kind in _SETTING_TYPES.items()
            if settings.get(name) is not None  # null leaves a setting as it is; unknown names are ignored, as in Triton
        }
        log_format = changes.get("log_format", LOG_FORMATS[0])
        if log_format not in LOG_FORMATS:  # Triton answers this one as its command line does, and with 503
            raise UnavailableError(f"invalid argument for --log_format, got: {log_format}")
        return json_reply(_log_settings_json(self._server.update_log_settings(changes)))


def _refuse_repository(route: Route) -> None:
    if route.repository:
        raise UnsupportedError("'repository_name' specification is not supported")


def _parameters(request: HttpRequest) -> Mapping[str, Any]:
    if not request.body:
        return {}
    document = decode_json(request.body)
    parameters = document.get("parameters", {}) if isinstance(document, dict) else {}
    if not isinstance(parameters, dict):
        raise InternalError("attempt to get members for non-object")
    return parameters


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind or (type(value) is int and not 0 <= value < 2**64):
        raise InternalError(_TYPE_FAILURES[kind])
    return value


def _base64(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgumentError(f"parameter '{name}' must be base64: {error}") from error


def _then_empty(awaitable: Awaitable[None]) -> Pending:
    return Pending(awaitable, lambda _: empty_reply(content_type="application/json"))


def _tensor_json(tensor: TensorMetadata) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _index_json(entry: ModelIndexEntry) -> dict[str, str]:
    document = {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}
    return {key: value for key, value in document.items() if value}


def _statistics_json(entry: ModelStatistics) -> dict[str, Any]:
    return {
        "name": entry.name,
        "version": entry.version,
        "last_inference": entry.last_inference,
        "inference_count": entry.inference_count,
        "execution_count": entry.execution_count,
        "inference_stats": {name: _duration_json(stat) for name, stat in entry.inference_stats.items()},
        "response_stats": {
            number: {name: _duration_json(getattr(stat, name)) for name in stat.__struct_fields__}
            for number, stat in entry.response_stats.items()
        },
        "batch_stats": [
            {
                "batch_size": batch.batch_size,
                "compute_input": _duration_json(batch.compute_input),
                "compute_infer": _duration_json(batch.compute_infer),
                "compute_output": _duration_json(batch.compute_output),
            }
            for batch in entry.batch_stats
        ],
        "memory_usage": [],
    }


def _duration_json(stat: DurationStat) -> dict[str, int]:
    return {"count": stat.count, "ns": stat.ns}


def _log_settings_json(settings: LogSettings) -> dict[str, Any]:
    return {
        "log_file": settings.log_file,
        "log_info": settings.log_info,
        "log_warning": settings.log_warning,
        "log_error": settings.log_error,
        "log_verbose_level": settings.log_verbose_level,
        "log_format": settings.log_format,
    }
