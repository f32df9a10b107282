"""What models may ask of their server about other models: to answer a request, to be loaded, to go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from conch.backend_api import OnAnswer
from conch.core.model import Model
from conch.core.model_table import parse_version
from conch.core.server import InferenceServer
from conch.errors import (
    CancelledError,
    ConchError,
    InternalError,
    NotFoundError,
    UnavailableError,
)
from conch.inference import InferRequest, InferResponse


class ModelAccess:
    """Implements `conch.backend_api.OtherModels`. Made before the server that loads the models; `connect` joins them.

    Requests are taken also while the server stops: they are part of requests that it accepted before.
    """

    def __init__(self) -> None:
        self._server: InferenceServer | None = None

    def connect(self, server: InferenceServer) -> None:
        """Ask that server from now on."""
        self._server = server

    def infer(self, request: InferRequest, decoupled: bool, on_answer: OnAnswer) -> Callable[[], object]:
        """See the port."""
        model = self._find(request.model_name, request.model_version)
        if model.config.decoupled and not decoupled:
            raise InternalError(
                f"Model {request.model_name} is using the decoupled. The current BLS request call doesn't support "
                "models using the decoupled transaction policy. Please use 'decoupled=True' argument to the 'exec' or "
                "'async_exec' calls for decoupled models.'"
            )
        future = model.infer(request)
        settled = partial(_on_settled, on_answer)
        if future.done():  # a cached response
            asyncio.get_running_loop().call_soon(settled, future)
            return future.cancel
        if decoupled:
            future.on_response = partial(_on_response, on_answer)
        future.on_settled = settled
        return future.cancel

    async def is_ready(self, name: str, version: str) -> bool:
        """See the port."""
        return await self._connected.check_model_ready(name, version)

    async def load(self, name: str, config: str | None, files: Mapping[str, bytes]) -> None:
        """See the port."""
        await self._connected.load_model(name, config, files)

    async def unload(self, name: str, unload_dependents: bool) -> None:
        """See the port."""
        await self._connected.unload_model(name, unload_dependents)

    def _find(self, name: str, version: str) -> Model:
        parse_version(version)
        try:
            return self._connected.lifecycle.find(name, version)
        except ConchError as error:
            raise NotFoundError(f"Failed for execute the inference request. Model '{name}' is not ready.") from error

    @property
    def _connected(self) -> InferenceServer:
        if self._server is None:
            raise UnavailableError("the server is not complete yet: models cannot be called now")
        return self._server


def _on_response(on_answer: OnAnswer, response: InferResponse | ConchError) -> None:
    on_answer(response, False)


def _on_settled(on_answer: OnAnswer, future: asyncio.Future[InferResponse]) -> None:
    if future.cancelled():
        on_answer(CancelledError("request was cancelled"), True)
        return
    error = future.exception()
    if error is None:
        on_answer(future.result(), True)
    else:
        assert isinstance(error, ConchError)
        on_answer(error, True)
