"""Models that write and embed, and what an app answers, without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Sequence
from typing import Any

import msgspec
import numpy as np

from conch.core.api import ModelIndexEntry
from conch.errors import ConchError
from conch.inference import InferRequest, InferResponse
from conch.tensor import DataType, Tensor
from conch.wire.http.guard import Guard
from conch.wire.http.messages import HttpApp, HttpRequest, Pending, RequestHead, Streamed
from conch.wire.openai.api import OpenAi
from conch.wire.openai.generation import Defaults
from tests.unit.wire.http.fake_server import FakeModel, FakeServer, model_config

_STRING = "data_type: TYPE_STRING dims: [1]"
_PROMPTS = f'input {{ name: "text" {_STRING} optional: true }} input {{ name: "messages" {_STRING} optional: true }} '
_COUNTS = "".join(f'output {{ name: "{n}_tokens" data_type: TYPE_INT32 dims: [1] }}' for n in ("prompt", "completion"))
_COMMON = (
    "max_new_tokens:int min_new_tokens:int do_sample:bool temperature:float top_p:float stop_sequence:texts seed:int "
    "logprobs:int tools:str json_schema:str"
)
_CONFIGS = {
    "writer": (
        f'max_batch_size: 0 {_PROMPTS} output {{ name: "text" {_STRING} }} '
        f'output {{ name: "finish_reason" {_STRING} }} {_COUNTS} output {{ name: "logprobs" {_STRING} }} '
        "model_transaction_policy { decoupled: true }",
        f"{_COMMON} presence_penalty:float frequency_penalty:float ignore_eos:bool",
    ),
    "plain": (
        f'max_batch_size: 8 {_PROMPTS} output {{ name: "generated_text" data_type: TYPE_STRING dims: [-1] }}',
        f"{_COMMON} return_full_text:bool",
    ),
    "counter": (
        f'max_batch_size: 8 {_PROMPTS} output {{ name: "generated_text" data_type: TYPE_STRING dims: [-1] }} '
        f'output {{ name: "finish_reason" data_type: TYPE_STRING dims: [-1] }} {_COUNTS} '
        'output { name: "logprobs" data_type: TYPE_STRING dims: [-1] }',
        f"{_COMMON} return_full_text:bool",
    ),
    "embedder": (
        f'max_batch_size: 2 input {{ name: "text" {_STRING} }} '
        'output { name: "embeddings" data_type: TYPE_FP32 dims: [3] }',
        "normalize:bool",
    ),
}


class TextServer(FakeServer):
    """Knows `writer` (decoupled), `plain`, `counter` (which tells more than `plain`), `embedder` and models without
    texts; plays what it is told to answer.

    Attributes:
        script: what `writer` answers, one response after another.
        text: what `plain` and `counter` answer; `reason` and `logprobs` are what `counter` tells beside it.
    """

    def __init__(self) -> None:
        super().__init__()
        for name, (text, parameters) in _CONFIGS.items():
            config = model_config(f'name: "{name}" backend: "python" {text}')
            optional = tuple(msgspec.structs.replace(i, optional=name != "embedder") for i in config.input)
            settings = {"request_parameters": parameters}
            self.models[name] = FakeModel(msgspec.structs.replace(config, input=optional, parameters=settings))
        self.index = [ModelIndexEntry(name, "1", "READY") for name in ("writer", "simple", "plain", "embedder")]
        self.script: Sequence[InferResponse | ConchError] = (
            piece("The", 1),
            piece(" sea", 2),
            piece(".", 3, "stop"),
        )
        self.text = "The sea."
        self.reason = "length"
        self.logprobs = ""

    def infer(self, request: InferRequest) -> Awaitable[InferResponse]:
        self.hold = request.model_name == "writer"
        if request.model_name == "plain":
            self.answer_with = (Tensor.from_numpy("generated_text", np.array([[self.text]], object), DataType.BYTES),)
        if request.model_name == "counter":
            texts = {"generated_text": self.text, "finish_reason": self.reason, "logprobs": self.logprobs}
            counts = {"prompt_tokens": 7, "completion_tokens": 3}
            self.answer_with = (
                *(Tensor.from_numpy(n, np.array([[t]], object), DataType.BYTES) for n, t in texts.items()),
                *(Tensor.from_numpy(n, np.array([[v]], np.int32), DataType.INT32) for n, v in counts.items()),
            )
        if request.model_name == "embedder":
            texts = request.inputs[0].as_numpy().reshape(-1)
            made = np.array([[len(text), 0.5, -1.0] for text in texts], np.float32)
            self.answer_with = (Tensor.from_numpy("embeddings", made, DataType.FP32),)
        answer = super().infer(request)
        if self.hold and self.script:
            asyncio.get_running_loop().call_soon(self._play)
        return answer

    def _play(self) -> None:
        for outcome in self.script[:-1]:
            self.emit(outcome)
        self.end(self.script[-1])


def piece(text: str, completion_tokens: int, finish_reason: str = "", logprobs: str = "") -> InferResponse:
    """A response of `writer` to a prompt of 7 tokens."""
    texts = {"text": text, "finish_reason": finish_reason, "logprobs": logprobs}
    numbers = {"prompt_tokens": 7, "completion_tokens": completion_tokens}
    return InferResponse(
        "writer",
        "1",
        "",
        (
            *(Tensor.from_numpy(n, np.array([t], object), DataType.BYTES) for n, t in texts.items()),
            *(Tensor.from_numpy(n, np.array([v], np.int32), DataType.INT32) for n, v in numbers.items()),
        ),
    )


def app_of(server: TextServer, guard: Guard | None = None, parser: str = "") -> OpenAi:
    """The app, of a server that started at second 5 and answers no more than 16 tokens unless it is asked to."""
    return OpenAi(server, guard, _metrics, Defaults(16, parser), now=lambda: 5.0)


async def _metrics() -> bytes:
    return b"nv_x 1\n"


class Answer(msgspec.Struct, frozen=True):
    """A reply: of a stream, `body` is all of it."""

    status: int
    head: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        return [line.removeprefix("data: ") for line in self.body.decode().split("\n\n") if line]


def ask(app: HttpApp, method: str, target: str, body: object = None, **headers: str) -> Answer:
    """What the app answers; `body` is bytes or becomes JSON."""
    named = {name.replace("_", "-").lower().encode(): value.encode() for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()

    async def run() -> Answer:
        try:
            outcome: Any = app.dispatch(HttpRequest(RequestHead(method.encode(), target.encode(), named), raw))
            while isinstance(outcome, Pending):
                outcome = outcome.finish(await outcome.awaitable)
        except Exception as error:
            outcome = app.failure(error)
        text = outcome.head.decode()
        status = int(text.split()[1])
        if isinstance(outcome, Streamed):
            return Answer(status, text, b"".join([part async for part in outcome.pieces]))
        return Answer(status, text, b"".join(bytes(part) for part in outcome.parts))

    return asyncio.run(run())
