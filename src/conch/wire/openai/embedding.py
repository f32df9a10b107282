"""`POST /v1/embeddings`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from conch.config.schema import ModelConfig
from conch.core.api import ServerApi
from conch.errors import InternalError
from conch.inference import InferResponse
from conch.wire.http.infer import traceparent
from conch.wire.http.messages import HttpRequest, Outcome, Pending, Reply, json_reply
from conch.wire.openai import replies
from conch.wire.openai.errors import RefusedError
from conch.wire.openai.models import TEXT, VECTOR, find_for
from conch.wire.openai.prompts import texts_to_embed
from conch.wire.openai.requests import EmbeddingRequest, decode
from conch.wire.openai.texts import text_request

#: Most texts of one request, as at OpenAI.
_MAX_TEXTS = 2048


class EmbeddingEndpoint:
    """The endpoint. The texts of a request go to the model in requests of at most its largest batch."""

    def __init__(self, server: ServerApi) -> None:
        self._server = server

    def __call__(self, request: HttpRequest) -> Outcome:
        wanted = decode(EmbeddingRequest, request.body)
        config = find_for(self._server, wanted.model, "embedding")
        if wanted.encoding_format not in (None, "float", "base64"):
            raise RefusedError(
                "encoding_format", f"'encoding_format' must be float or base64, got '{wanted.encoding_format}'"
            )
        texts = texts_to_embed(wanted.input)
        if len(texts) > _MAX_TEXTS:
            raise RefusedError("input", f"'input' may hold {_MAX_TEXTS} texts, got {len(texts)}")
        trace = traceparent(request.headers)
        return Pending(self._embed(config, texts, trace), lambda vectors: _reply(config.name, wanted, vectors))

    async def _embed(self, config: ModelConfig, texts: Sequence[str], trace: str) -> np.ndarray:
        size = max(config.max_batch_size, 1)
        parts = [texts[begin : begin + size] for begin in range(0, len(texts), size)]
        requests = [text_request(config, TEXT, part, {}) for part in parts]
        tracing = self._server.tracing
        if tracing.active:
            requests[0] = tracing.begin(requests[0], trace)
        answers: list[asyncio.Future[InferResponse]] = []
        try:
            answers.extend(asyncio.ensure_future(self._server.infer(each)) for each in requests)
            made = [
                _vectors(response, len(part))
                for response, part in zip(await asyncio.gather(*answers), parts, strict=True)
            ]
        finally:
            for answer in answers:
                answer.cancel()
        return np.concatenate(made)


def _vectors(response: InferResponse, count: int) -> np.ndarray:
    tensor = response.output(VECTOR)
    if tensor is None:
        raise InternalError(f"model '{response.model_name}' answered without its output '{VECTOR}'")
    vectors: np.ndarray = tensor.as_numpy().reshape(count, -1).astype(np.float32)
    return vectors


def _reply(model: str, wanted: EmbeddingRequest, vectors: np.ndarray) -> Reply:
    size = vectors.shape[1]
    if wanted.dimensions not in (None, size):
        raise RefusedError("dimensions", f"'dimensions' must be {size}, those of the model, got {wanted.dimensions}")
    return json_reply(replies.embeddings(model, vectors, as_base64=wanted.encoding_format == "base64"))
