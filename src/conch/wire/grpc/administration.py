"""RPCs that change the server: repository and log settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from conch.core.api import LogSettings, ServerApi
from conch.errors import InvalidArgumentError, UnsupportedError
from conch.wire.grpc.dispatch import UnaryMethod
from conch.wire.grpc.methods import INFERENCE_SERVICE, unary
from conch.wire.grpc.protos import pb

#: Log setting -> the field of SettingValue it must come in, and how Triton calls that.
_LOG_SETTINGS = {
    "log_file": ("string_param", "string"),
    "log_info": ("bool_param", "boolean"),
    "log_warning": ("bool_param", "boolean"),
    "log_error": ("bool_param", "boolean"),
    "log_verbose_level": ("uint32_param", "int32"),
    "log_format": ("string_param", "string"),
}


class Administration:
    """Passes changes on to the server. A change that has begun is finished even if its client goes away."""

    def __init__(self, server: ServerApi) -> None:
        self._server = server
        self._changes: set[asyncio.Task[None]] = set()

    def methods(self) -> list[UnaryMethod]:
        """What is served, by path."""
        answers = {
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
            "LogSettings": self._log_settings,
        }
        return [
            unary(f"/{INFERENCE_SERVICE}/{name}", getattr(pb, f"{name}Request"), answer)
            for name, answer in answers.items()
        ]

    async def finish(self) -> None:
        """Wait for the changes under way; their clients were told how they ended."""
        await asyncio.gather(*self._changes, return_exceptions=True)

    def _repository_index(self, request: Any) -> Any:
        _check_no_repository(request)
        response = pb.RepositoryIndexResponse()
        for entry in self._server.repository_index(request.ready):
            response.models.add(name=entry.name, version=entry.version, state=entry.state, reason=entry.reason)
        return response

    async def _load(self, request: Any) -> Any:
        _check_no_repository(request)
        config: str | None = None
        files: dict[str, bytes] = {}
        for name, parameter in request.parameters.items():
            kind = parameter.WhichOneof("parameter_choice")
            expected = "string_param" if name == "config" else "bytes_param" if name.startswith("file:") else ""
            if not expected:
                raise InvalidArgumentError(f"unrecognized load parameter '{name}'.")
            if kind != expected:
                raise InvalidArgumentError(f"invalid value type for load parameter '{name}', expected {expected}.")
            if name == "config":
                config = parameter.string_param
            else:
                files[name.removeprefix("file:")] = parameter.bytes_param
        await self._change(self._server.load_model(request.model_name, config, files))
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, request: Any) -> Any:
        _check_no_repository(request)
        dependents = False
        for name, parameter in request.parameters.items():
            if name == "unload_dependents":
                if parameter.WhichOneof("parameter_choice") != "bool_param":
                    raise InvalidArgumentError(f"invalid value type for '{name}' parameter, expected bool_param.")
                dependents = parameter.bool_param
        await self._change(self._server.unload_model(request.model_name, dependents))
        return pb.RepositoryModelUnloadResponse()

    def _change(self, change: Coroutine[Any, Any, None]) -> Awaitable[None]:
        task = asyncio.get_running_loop().create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changed)
        return asyncio.shield(task)

    def _changed(self, task: asyncio.Task[None]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()  # the client, if it still waits, is told; nobody else asked

    def _log_settings(self, request: Any) -> Any:
        changes: dict[str, bool | int | str] = {}
        for name, value in request.settings.items():
            if name not in _LOG_SETTINGS:
                continue  # as Triton does
            field, called = _LOG_SETTINGS[name]
            kind = value.WhichOneof("parameter_choice")
            if name == "log_file":
                changes[name] = value.string_param  # refused by the server, whatever its type
            elif kind != field:
                raise InvalidArgumentError(f"expect {called} for '{name}'")
            else:
                changes[name] = getattr(value, field)
        server = self._server
        return _settings(server.update_log_settings(changes) if changes else server.log_settings())


def _check_no_repository(request: Any) -> None:
    if request.repository_name:
        raise UnsupportedError("'repository_name' specification is not supported")


def _settings(settings: LogSettings) -> Any:
    response = pb.LogSettingsResponse()
    for name, (field, _) in _LOG_SETTINGS.items():
        setattr(response.settings[name], field, getattr(settings, name))
    return response
