"""One small interface over tritonclient's HTTP and gRPC clients, with errors that say what to do."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from tritonclient.utils import InferenceServerException

from conch.cli.infer_inputs import InputSpec, NamedArray
from conch.inference import Parameter


class CallError(Exception):
    """The call failed; the text ends with what to do."""


class ModelInfo(msgspec.Struct, frozen=True):
    """A model as its metadata and configuration describe it; input shapes exclude the batch dimension."""

    name: str
    version: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    batches: bool


class Answer(msgspec.Struct, frozen=True):
    """What the model answered; `batches` tells whether the outputs start with a batch dimension."""

    model_name: str
    model_version: str
    outputs: Mapping[str, np.ndarray]
    batches: bool


class Client(Protocol):
    """A connection to a server."""

    def model(self, name: str, version: str) -> ModelInfo:
        """Raises CallError: the server does not answer, or the model is not there."""
        ...

    def infer(
        self,
        model: ModelInfo,
        inputs: Sequence[NamedArray],
        outputs: Sequence[str],
        parameters: Mapping[str, Parameter],
    ) -> Answer:
        """Raises CallError."""
        ...

    def close(self) -> None: ...


def connect(protocol: str, url: str, timeout_s: float) -> Client:
    """A client for "http" or "grpc"; nothing is sent yet."""
    url = url.removeprefix("http://").removeprefix("grpc://").rstrip("/")
    module: Any = importlib.import_module(f"tritonclient.{protocol}")
    if protocol == "grpc":
        client = module.InferenceServerClient(url)
        return _TritonClient(module, client, url, {"client_timeout": timeout_s}, as_json=True)
    client = module.InferenceServerClient(url, connection_timeout=timeout_s, network_timeout=timeout_s)
    return _TritonClient(module, client, url, {}, as_json=False)


class _TritonClient:
    """`Client` over a module of tritonclient (`http` and `grpc` differ in little)."""

    def __init__(self, module: Any, client: Any, url: str, limits: Mapping[str, float], *, as_json: bool) -> None:
        self._module = module
        self._client = client
        self._url = url
        self._limits = limits
        self._form = {"as_json": True} if as_json else {}

    def model(self, name: str, version: str) -> ModelInfo:
        arguments = {**self._form, **self._limits}
        try:
            metadata = self._client.get_model_metadata(name, version, **arguments)
            config = self._client.get_model_config(name, version, **arguments)
        except (InferenceServerException, OSError) as error:
            raise self._failure(error, name) from error
        config = config.get("config", config)
        batches = int(config.get("max_batch_size", 0)) > 0
        optional = {tensor["name"] for tensor in config.get("input", []) if tensor.get("optional")}
        inputs = tuple(
            InputSpec(
                tensor["name"],
                tensor["datatype"],
                tuple(int(dim) for dim in tensor.get("shape", []))[1 if batches else 0 :],
                tensor["name"] in optional,
            )
            for tensor in metadata.get("inputs", [])
        )
        outputs = tuple(tensor["name"] for tensor in metadata.get("outputs", []))
        return ModelInfo(name, version, inputs, outputs, batches)

    def infer(
        self,
        model: ModelInfo,
        inputs: Sequence[NamedArray],
        outputs: Sequence[str],
        parameters: Mapping[str, Parameter],
    ) -> Answer:
        sent = []
        for tensor in inputs:
            sent.append(self._module.InferInput(tensor.name, list(tensor.array.shape), tensor.datatype))
            sent[-1].set_data_from_numpy(tensor.array)
        wanted = [self._module.InferRequestedOutput(name) for name in outputs or model.outputs]
        try:
            result = self._client.infer(
                model.name,
                sent,
                model_version=model.version,
                outputs=wanted,
                parameters=dict(parameters) or None,
                **self._limits,
            )
        except (InferenceServerException, OSError) as error:
            raise self._failure(error, model.name) from error
        response = result.get_response(**self._form)
        names = [tensor["name"] for tensor in response.get("outputs", [])]
        return Answer(
            response.get("model_name", model.name),
            str(response.get("model_version", model.version)),
            {name: result.as_numpy(name) for name in names},
            model.batches,
        )

    def close(self) -> None:
        self._client.close()

    def _failure(self, error: Exception, model_name: str) -> CallError:
        if isinstance(error, TimeoutError):
            return CallError(f"{self._url} did not answer in time; try a larger --timeout")
        text, status = str(error), ""
        if isinstance(error, InferenceServerException):
            refused: Any = error
            text, status = str(refused.message()), str(refused.status() or "")
        unreachable = isinstance(error, OSError) or "failed to connect" in text or "Socket closed" in text
        if unreachable:
            return CallError(
                f"no server answers at {self._url} ({text}); start one: conch serve --model-repository=models"
            )
        if "DEADLINE_EXCEEDED" in status:
            return CallError(f"{self._url} did not answer in time; try a larger --timeout")
        if "unknown model" in text.lower():
            return CallError(f"{text}{self._served(model_name)}")
        return CallError(text)

    def _served(self, missing: str) -> str:
        try:
            index = self._client.get_model_repository_index(**self._form)
        except (InferenceServerException, OSError):
            return ""
        models = index.get("models", []) if isinstance(index, dict) else index
        ready = sorted({model["name"] for model in models if model.get("state") == "READY"})
        reasons = [model.get("reason", "") for model in models if model["name"] == missing and model.get("reason")]
        if reasons:
            return f" ({reasons[0]}); mend it and load it again"
        if ready:
            return f"; the server has {', '.join(ready)}: conch infer {ready[0]} ..."
        return "; the server has no models: conch deploy MODEL --model-repository=models"
