"""`/v2/trace/setting` and `/v2/models/M/trace/setting`."""

from __future__ import annotations

from typing import Any

from conch.core.api import ServerApi
from conch.errors import InternalError
from conch.wire.codec.trace_settings import NUMBERS, check_model, described, read_level, read_number, refuse_file
from conch.wire.http.json_text import decode_json
from conch.wire.http.messages import HttpRequest, Reply, json_reply
from conch.wire.http.router import Route


class TraceSettingsEndpoint:
    """Reads and changes the settings of tracing."""

    def __init__(self, server: ServerApi) -> None:
        self._server = server

    def get(self, request: HttpRequest, route: Route) -> Reply:
        check_model(self._server, route.model)
        return json_reply(described(self._server.tracing, route.model))

    def post(self, request: HttpRequest, route: Route) -> Reply:
        check_model(self._server, route.model)
        document = decode_json(request.body)
        settings: dict[str, Any] = document if isinstance(document, dict) else {}
        if "trace_file" in settings:
            raise refuse_file()
        changes: dict[str, int | None] = {}
        if "trace_level" in settings:
            names = settings["trace_level"]
            if names is None:
                changes["level"] = None
            else:
                level = read_level(_texts(names))
                if level is not None:
                    changes["level"] = level
        for name, field in NUMBERS.items():
            if name in settings:
                text = settings[name]
                if text is not None and not isinstance(text, str):
                    raise InternalError("attempt to access JSON non-string as string")
                changes[field] = None if text is None else read_number(name, text, colon=":")
        if changes:
            self._server.tracing.update(changes, route.model)
        return json_reply(described(self._server.tracing, route.model))


def _texts(names: object) -> list[str]:
    if not isinstance(names, list):
        raise InternalError("attempt to access JSON non-array as array")
    if not all(isinstance(name, str) for name in names):
        raise InternalError("attempt to access JSON non-string as string")
    return names
