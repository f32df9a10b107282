"""What models write, as pieces of text: of a model that sends them one by one, and of one that answers once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence

import msgspec

from conch.config.schema import ModelConfig
from conch.errors import CancelledError, ConchError, InternalError
from conch.inference import InferRequest, InferResponse, Parameter
from conch.tensor import DataType, Tensor
from conch.tensor.tensor import decode_bytes_elements, encode_bytes_elements
from conch.wire.openai.models import COMPLETION_TOKENS, FINISH_REASON, PIECE, PROMPT_TOKENS, TEXT, WHOLE
from conch.wire.openai.sampling import known_parameters
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
    """

    text: str
    finish_reason: str = ""
    usage: Usage | None = None


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
    return msgspec.structs.replace(found[-1], text="".join(part.text for part in found))


def whole_piece(response: InferResponse, stops: Sequence[str]) -> Piece:
    """The answer of a model that answers once, up to the first of `stops`; such a model does not say why it ended."""
    text = _text(response, WHOLE)
    places = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    usage = _usage(response)
    return Piece(text[: min(places)], "stop", usage) if places else Piece(text, "", usage)


def _piece(response: InferResponse) -> Piece:
    reason = _text(response, FINISH_REASON) if response.output(FINISH_REASON) else ""
    return Piece(_text(response, PIECE), reason, _usage(response))


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
