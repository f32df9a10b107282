"""The RPC TraceSetting."""

from __future__ import annotations

from typing import Any

from conch.core.api import ServerApi
from conch.errors import InvalidArgumentError
from conch.wire.codec.trace_settings import NUMBERS, check_model, described, read_level, read_number, refuse_file
from conch.wire.grpc.dispatch import UnaryMethod
from conch.wire.grpc.methods import INFERENCE_SERVICE, unary
from conch.wire.grpc.protos import pb


class TraceSettings:
    """Reads and changes the settings of tracing."""

    def __init__(self, server: ServerApi) -> None:
        self._server = server

    def methods(self) -> list[UnaryMethod]:
        """What is served, by path."""
        return [unary(f"/{INFERENCE_SERVICE}/TraceSetting", pb.TraceSettingRequest, self._trace_setting)]

    def _trace_setting(self, request: Any) -> Any:
        check_model(self._server, request.model_name)
        settings = {name: list(setting.value) for name, setting in request.settings.items()}
        if "trace_file" in settings:
            raise refuse_file()
        changes: dict[str, int | None] = {}
        if "trace_level" in settings:
            level = read_level(settings["trace_level"])
            if level is not None or not settings["trace_level"]:
                changes["level"] = level
        for name, field in NUMBERS.items():
            if name in settings:
                values = settings[name]
                if len(values) > 1:
                    raise InvalidArgumentError(f"expect only 1 value for '{name}'")
                changes[field] = read_number(name, values[0]) if values else None
        if changes:
            self._server.tracing.update(changes, request.model_name)
        response = pb.TraceSettingResponse()
        for name, value in described(self._server.tracing, request.model_name).items():
            response.settings[name].value.extend([value] if isinstance(value, str) else value)
        return response
