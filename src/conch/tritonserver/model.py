"""A model as the API has it."""

from __future__ import annotations

from typing import Any

from conch.inprocess import server
from conch.tritonserver.enums import ModelBatchFlag, ModelTxnPropertyFlag
from conch.tritonserver.request import InferenceRequest
from conch.tritonserver.response import AsyncResponseIterator, ResponseIterator


class Model:
    """A model of a server; made by the server.

    Attributes:
        version: -1 for the choice of its version policy.
        state: of an entry of `Server.models()`: READY, UNAVAILABLE, ...; None where it was never loaded.
        reason: why it is in that state.
    """

    def __init__(
        self, model: server.Model, version: int = -1, state: str | None = None, reason: str | None = None
    ) -> None:
        self._model = model
        self.name = model.name
        self.version = version
        self.state = state
        self.reason = reason

    def of_version(self, version: str) -> Model:
        """The same model, of the version that answered."""
        return Model(self._model, int(version)) if version else self

    def of_any_version(self) -> Model:
        """The same model, of the version policy's choice."""
        return Model(server.Model(self._model.server, self.name, ""))

    def ready(self) -> bool:
        """Whether it can answer."""
        return self._model.ready()

    def metadata(self) -> dict[str, Any]:
        """Versions, platform, inputs and outputs."""
        return self._model.metadata()

    def config(self, config_version: int = 1) -> dict[str, Any]:
        """Its complete configuration; there is one version of the form."""
        return self._model.config()

    def statistics(self) -> dict[str, Any]:
        """What its versions have done."""
        return {"model_stats": self._model.statistics()}

    def batch_properties(self) -> ModelBatchFlag:
        """Whether its first dimension is the batch."""
        return ModelBatchFlag.FIRST_DIM if self._model.config()["max_batch_size"] else ModelBatchFlag.UNKNOWN

    def transaction_properties(self) -> ModelTxnPropertyFlag:
        """Whether it answers any number of times."""
        decoupled = self._model.config().get("model_transaction_policy", {}).get("decoupled", False)
        return ModelTxnPropertyFlag.DECOUPLED if decoupled else ModelTxnPropertyFlag.ONE_TO_ONE

    def create_request(self, **fields: Any) -> InferenceRequest:
        """A request to it."""
        return InferenceRequest(**{**fields, "model": self})

    def infer(
        self, inference_request: InferenceRequest | None = None, raise_on_error: bool = True, **fields: Any
    ) -> ResponseIterator:
        """Send a request, or one of these fields, and iterate over its responses.

        Raises:
            ConchError: it cannot be sent. What the server finds wrong is raised by the iterator.
        """
        request = inference_request or self.create_request(**fields)
        answers = self._model.infer(request.for_conch(), raise_on_error=False)
        return ResponseIterator(self, request, answers, raise_on_error)

    def async_infer(
        self, inference_request: InferenceRequest | None = None, raise_on_error: bool = True, **fields: Any
    ) -> AsyncResponseIterator:
        """As `infer`, for `async for` on the caller's event loop."""
        request = inference_request or self.create_request(**fields)
        answers = self._model.async_infer(request.for_conch(), raise_on_error=False)
        return AsyncResponseIterator(self, request, answers, raise_on_error)

    def __repr__(self) -> str:
        return str({"name": self.name, "version": self.version, "state": self.state})
