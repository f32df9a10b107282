"""What models write, as pieces of text: of a model that sends them one by one, and of one that answers once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from typing import Any

import msgspec

from conch.config.schema import ModelConfig
from conch.errors import CancelledError, ConchError, InternalError
from conch.inference import InferRequest, InferResponse, Parameter
from conch.tensor import DataType, Tensor
from conch.tensor.tensor import decode_bytes_elements, encode_bytes_elements
from conch.wire.openai.models import COMPLETION_TOKENS, FINISH_REASON, LOGPROBS, PIECE, PROMPT_TOKENS, TEXT, WHOLE
from conch.wire.openai.sampling import known_parameters
from conch.wire.openai.tool_calls import ToolCall
from conch.wire.responses import Responses


class Usage(msgspec.Struct, frozen=True):
    """How many tokens a request took."""

    prompt_tokens: int
    completion_tokens: int


class Piece(msgspec.Struct, frozen=True):
    """A piece of text.

    Attributes:
        finish_reason: why it is the last one; "" where it is not, or the model does not say.
        usage: what the request took so far; None where the model does not say.
        logprobs: of each token of the piece, as OpenAI has them in conversations; None where nobody asked.
        calls: of functions, that came with it.
    """

    text: str
    finish_reason: str = ""
    usage: Usage | None = None
    logprobs: Sequence[Mapping[str, Any]] | None = None
    calls: Sequence[ToolCall] = ()


def tells_logprobs(config: ModelConfig) -> bool:
    """Whether the model tells how likely its tokens were, where it is asked to."""
    return any(spec.name == LOGPROBS for spec in config.output)


def counts_tokens(config: ModelConfig) -> bool:
    """Whether the model tells how many tokens a request took."""
    return {PROMPT_TOKENS, COMPLETION_TOKENS} <= {spec.name for spec in config.output}


def text_request(
    config: ModelConfig, input_name: str, texts: Sequence[str], parameters: dict[str, Parameter]
) -> InferRequest:
    """A request of texts for a model; more than one need its batch dimension. Text alone is asked for, no prompt."""
    known = known_parameters(config)
    if input_name == TEXT and known is not None and "return_full_text" in known:
        parameters = {**parameters, "return_full_text": False}
    shape = (len(texts), 1) if config.max_batch_size > 0 else (len(texts),)
    data = encode_bytes_elements(text.encode("utf-8", "surrogateescape") for text in texts)
    return InferRequest(config.name, "", (Tensor(input_name, DataType.BYTES, shape, data),), parameters=parameters)


async def pieces(
    config: ModelConfig, answer: Awaitable[InferResponse], stops: Sequence[str]
) -> AsyncGenerator[Piece, None]:
    """The text as it comes; the request is given up when the generator is closed.

    Raises:
        ConchError: what the model answered instead.
    """
    if not config.decoupled:
        yield whole_piece(await answer, stops)
        return
    responses = Responses(answer)
    try:
        while (response := await responses.next()) is not None:
            if isinstance(response, ConchError):
                raise response
            yield _piece(response)
    finally:
        responses.cancel()


async def joined(parts: AsyncGenerator[Piece, None]) -> Piece:
    """All pieces as one.

    Raises:
        ConchError: as the pieces do, and where there are none.
    """
    found = [part async for part in parts]
    if not found:
        raise CancelledError("the model answered nothing")
    told = [part.logprobs for part in found if part.logprobs is not None]
    return msgspec.structs.replace(
        found[-1],
        text="".join(part.text for part in found),
        logprobs=[entry for entries in told for entry in entries] if told else None,
        calls=[call for part in found for call in part.calls],
    )


def whole_piece(response: InferResponse, stops: Sequence[str]) -> Piece:
    """The answer of a model that answers once, up to the first of `stops`."""
    text, entries = _text(response, WHOLE), _logprobs(response)
    places = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    if not places:
        return Piece(text, _reason(response), _usage(response), entries)
    kept = text[: min(places)]
    return Piece(kept, "stop", _usage(response), _before(entries, text[len(kept) :]))


def _piece(response: InferResponse) -> Piece:
    return Piece(_text(response, PIECE), _reason(response), _usage(response), _logprobs(response))


def _reason(response: InferResponse) -> str:
    return _text(response, FINISH_REASON) if response.output(FINISH_REASON) else ""


def _logprobs(response: InferResponse) -> list[dict[str, Any]] | None:
    """The likelihoods of the tokens; None where the model does not tell them."""
    text = _text(response, LOGPROBS) if response.output(LOGPROBS) else ""
    return msgspec.json.decode(text, type=list[dict[str, Any]]) if text else None


def _before(entries: list[dict[str, Any]] | None, tail: str) -> list[dict[str, Any]] | None:
    """The tokens of a text whose end is cut off, without those that lie in it as a whole."""
    if entries is None:
        return None
    room, count = len(tail.encode()), len(entries)
    while count and (size := len(entries[count - 1].get("bytes") or ())) <= room:
        room -= size
        count -= 1
    return entries[:count]


def _usage(response: InferResponse) -> Usage | None:
    prompt, completion = response.output(PROMPT_TOKENS), response.output(COMPLETION_TOKENS)
    return None if prompt is None or completion is None else Usage(_number(prompt), _number(completion))


def _number(tensor: Tensor) -> int:
    return int(tensor.as_numpy().reshape(-1)[0])


def _text(response: InferResponse, name: str) -> str:
    tensor = response.output(name)
    elements = () if tensor is None else decode_bytes_elements(tensor.data, tensor.element_count)
    if not elements:
        raise InternalError(f"model '{response.model_name}' answered without a text in its output '{name}'")
    return bytes(elements[0]).decode("utf-8", "replace")
