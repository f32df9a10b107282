"""Models of a repository and those they are made of, loaded in this process without any listener."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from conch.app import build_server, open_repositories
from conch.config.serve_options import ServeOptions
from conch.core.api import LogSettings
from conch.core.log_settings import LogControl
from conch.core.server import InferenceServer
from conch.errors import ConchError
from conch.inference import InferRequest, InferResponse, Parameter
from conch.tensor import Tensor
from conch.wire.responses import Responses

InferModel = Callable[[str, Mapping[str, np.ndarray], Mapping[str, Parameter]], Awaitable[dict[str, np.ndarray]]]


@asynccontextmanager
async def loaded_models(repository: Path, *names: str) -> AsyncIterator[InferModel]:
    """Models of a repository and the models they are made of, loaded in this process without any listener.

    Yields:
        An async callable (model, inputs by name, request parameters) -> outputs by name. Arrays of strings or bytes go
        to and come from BYTES tensors. Outputs of a model that answers any number of times are those of all responses,
        one after another.

    Raises:
        ConchError: a model does not load.
    """
    options = ServeOptions(model_repository=(str(repository),), model_control_mode="explicit")
    logs = LogControl(LogSettings("", True, True, True, 0, "default"))
    server = build_server(options, logs, open_repositories(options, os.environ))
    try:
        for name in names:
            await server.lifecycle.load(name)
        server.mark_started()
        yield functools.partial(_infer, server)
    finally:
        await server.stop(timeout_s=options.exit_timeout_secs)


async def _infer(
    server: InferenceServer, name: str, inputs: Mapping[str, np.ndarray], parameters: Mapping[str, Parameter]
) -> dict[str, np.ndarray]:
    config = server.model(name, "").config
    datatypes = {spec.name: spec.data_type for spec in config.input}
    if unknown := set(inputs) - set(datatypes):
        raise ConchError(f"model '{name}' has no input {sorted(unknown)}; it has {sorted(datatypes)}")
    tensors = tuple(Tensor.from_numpy(key, array, datatypes[key]) for key, array in inputs.items())
    answer = server.infer(InferRequest(name, "", tensors, parameters=parameters))
    if config.decoupled:
        return await _all_outputs(answer)
    return {tensor.name: tensor.as_numpy() for tensor in (await answer).outputs}


async def _all_outputs(answer: Awaitable[InferResponse]) -> dict[str, np.ndarray]:
    outputs: dict[str, list[np.ndarray]] = {}
    responses = Responses(answer)
    while (response := await responses.next()) is not None:
        if isinstance(response, ConchError):
            raise response
        for tensor in response.outputs:
            outputs.setdefault(tensor.name, []).append(tensor.as_numpy())
    return {name: np.concatenate(arrays) for name, arrays in outputs.items()}
