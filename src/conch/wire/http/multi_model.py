"""SageMaker's endpoints of several models: loaded from directories that requests name, below one that is allowed.

SageMaker unpacks each model's archive below /opt/ml/models and names it by a hash. The archive holds a model's
directory, or several of which one is an ensemble.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote

from conch.core.api import ServerApi
from conch.errors import AlreadyExistsError, ConchError, InvalidArgumentError
from conch.tensor.tensor import Buffer
from conch.wire.http.json_text import decode_json
from conch.wire.http.messages import HttpRequest, Outcome, Pending, Reply, empty_reply, error_reply, json_reply
from conch.wire.http.router import Route
from conch.wire.status import HTTP_STATUS

_PATH = re.compile(r"/models/?([^/]+)?(/invoke)?")
_ENSEMBLE = re.compile(r'platform\s*:\s*"ensemble"')

#: What memory that ran out looks like in the errors of frameworks: SageMaker then unloads other models and tries again.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|out_of_memory|OutOfMemory|MemoryError|OOM|ALLOC_FAILED|failed to allocate memory|"
    r"No space left on device",
    re.IGNORECASE,
)


class MultiModel:
    """`/models`: load, list and unload models, and inference with them.

    Args:
        root: the directory below which models may be loaded.
        refusal: the reply to a request that is not let through, None for one that is.
        infer: answers an inference request with the model of that name.
    """

    def __init__(
        self,
        server: ServerApi,
        root: Path,
        refusal: Callable[[HttpRequest, Route], Reply | None],
        infer: Callable[[HttpRequest, str], Outcome],
    ) -> None:
        self._server = server
        self._root = root
        self._refusal = refusal
        self._infer = infer
        #: Name -> where it was loaded from.
        self._models: dict[str, str] = {}

    def dispatch(self, request: HttpRequest, path: str) -> Outcome | None:
        """The answer to a request; None where the path, or the method there, leads nowhere."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        name, invoked = unquote(match[1] or ""), bool(match[2])
        if request.method == b"POST" and invoked:
            return self._invoke(request, name) if name in self._models else empty_reply(404)
        if request.method not in (b"GET", b"POST", b"DELETE"):
            return None
        refusal = self._refusal(request, Route("model_load"))
        if refusal is not None:
            return refusal
        if request.method == b"POST":
            return _later(self._load(request.body))
        if request.method == b"DELETE":
            return _later(self._unload(name)) if name in self._models else empty_reply(404)
        if not name:
            return json_reply({"models": [self._shown(each) for each in self._models if self._is_ready(each)]})
        return json_reply(self._shown(name)) if name in self._models else empty_reply(404)

    def _invoke(self, request: HttpRequest, name: str) -> Outcome:
        try:
            outcome = self._infer(request, name)
        except ConchError as error:
            return _invocation_failure(error)
        if isinstance(outcome, Pending) and outcome.recover is None:
            return Pending(outcome.awaitable, outcome.finish, _invocation_failure)
        return outcome

    def _shown(self, name: str) -> dict[str, str]:
        return {"modelName": name, "modelUrl": self._models[name]}

    def _is_ready(self, name: str) -> bool:
        return self._server.is_model_ready(name, "")

    async def _load(self, body: Buffer) -> None:
        document = decode_json(body) if body else {}
        name = _text(document, "model_name")
        location, directory = await asyncio.to_thread(_model_directory, _text(document, "url"), self._root)
        await self._server.register_repository(location, {directory: name})
        try:
            await self._server.load_model(name, None, {})
        except BaseException:
            await self._server.unregister_repository(location)
            raise
        self._models[name] = location

    async def _unload(self, name: str) -> None:
        await self._server.unload_model(name, True)
        await self._server.unregister_repository(self._models.pop(name))


def _later(work: Awaitable[None]) -> Pending:
    return Pending(work, lambda _: empty_reply(), _failure)


def _failure(error: ConchError) -> Reply:
    """The statuses that SageMaker understands."""
    if isinstance(error, AlreadyExistsError):
        return error_reply(409, error.message)
    return error_reply(507 if _OUT_OF_MEMORY.search(error.message) else 400, error.message)


def _invocation_failure(error: ConchError) -> Reply:
    status = 507 if _OUT_OF_MEMORY.search(error.message) else HTTP_STATUS[error.code]
    return error_reply(status, error.message)


def _text(document: object, field: str) -> str:
    value = document.get(field) if isinstance(document, dict) else None
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError(
            f"'{field}' must be a text that is not empty: a model is loaded with "
            '{"model_name": "<name>", "url": "<directory>"}'
        )
    return value


def _model_directory(url: str, root: Path) -> tuple[str, str]:
    """The repository to register and the directory in it that holds the model.

    Raises:
        InvalidArgumentError: the directory is not below the root, or it cannot be told which model is meant.
    """
    directory = Path(url).resolve()
    allowed = root.resolve()
    if allowed not in directory.parents:
        raise InvalidArgumentError(
            f"models are loaded from directories below '{root}' only (--sagemaker-model-root), got '{url}'"
        )
    if not directory.is_dir():
        raise InvalidArgumentError(f"failed to register '{url}', repository not found")
    if (directory / "config.pbtxt").is_file():
        return str(directory.parent), directory.name
    models = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    chosen = [path for path in models if _is_ensemble(path)] if len(models) > 1 else models
    if len(chosen) != 1:
        raise InvalidArgumentError(
            f"'{url}' must hold a config.pbtxt, one model's directory, or several of which one is an ensemble; it has "
            f"{len(models)} directories and {len(chosen) if len(models) > 1 else 0} ensembles"
        )
    return str(directory), chosen[0].name


def _is_ensemble(directory: Path) -> bool:
    config = directory / "config.pbtxt"
    return config.is_file() and _ENSEMBLE.search(config.read_text(encoding="utf-8", errors="replace")) is not None
