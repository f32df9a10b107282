"""`POST /v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Mapping

import msgspec

from conch.config.schema import ModelConfig
from conch.core.api import ServerApi
from conch.errors import ConchError
from conch.inference import Parameter
from conch.wire.http.infer import traceparent
from conch.wire.http.messages import HttpRequest, Outcome, Pending, Streamed, json_reply
from conch.wire.openai.answer_form import form_parameters
from conch.wire.openai.calls import with_calls
from conch.wire.openai.errors import RefusedError, error_document
from conch.wire.openai.models import MESSAGES, TEXT, find_for
from conch.wire.openai.prompts import conversation, one_prompt
from conch.wire.openai.replies import DONE, STREAM_HEAD, Form, event
from conch.wire.openai.requests import ChatRequest, CompletionRequest, TextRequest, decode
from conch.wire.openai.sampling import check_offered, model_parameters, stops_of, top_logprobs
from conch.wire.openai.texts import Piece, counts_tokens, joined, pieces, tells_logprobs, text_request
from conch.wire.openai.tools import Calling, calling_of

_Further = dict[str, Mapping[str, Parameter]]


class Defaults(msgspec.Struct, frozen=True):
    """What holds where nothing else is said.

    Attributes:
        max_tokens: tokens of an answer, by requests.
        tool_call_parser: how models write calls of functions, by the model; "" for unknown.
    """

    max_tokens: int = 16
    tool_call_parser: str = ""


class GenerationEndpoint:
    """Both endpoints.

    Args:
        now: seconds since the epoch.
    """

    def __init__(self, server: ServerApi, defaults: Defaults, now: Callable[[], float]) -> None:
        self._server = server
        self._defaults = defaults
        self._now = now

    def __call__(self, request: HttpRequest, kind: type[ChatRequest] | type[CompletionRequest]) -> Outcome:
        wanted: TextRequest = decode(kind, request.body)
        chat = isinstance(wanted, ChatRequest)
        config = find_for(self._server, wanted.model, "chat" if chat else "completion")
        check_offered(wanted)
        with_usage = wanted.stream_options is not None and bool(wanted.stream_options.include_usage)
        if with_usage and not counts_tokens(config):
            raise RefusedError(
                "stream_options.include_usage",
                f"'stream_options.include_usage' is not supported by model '{config.name}': it does not count tokens",
            )
        if top_logprobs(wanted) is not None and not tells_logprobs(config):
            raise RefusedError(
                "logprobs",
                f"'logprobs' is not supported by model '{config.name}': it does not tell how likely its tokens were",
            )
        calling, further = self._form(wanted, config)
        parameters = model_parameters(wanted, config, self._defaults.max_tokens, further)
        if isinstance(wanted, ChatRequest):
            infer = text_request(config, MESSAGES, [conversation(wanted.messages)], parameters)
        else:
            infer = text_request(config, TEXT, [one_prompt(wanted.prompt)], parameters)
        tracing = self._server.tracing
        if tracing.active:
            infer = tracing.begin(infer, traceparent(request.headers))
        made = pieces(config, self._server.infer(infer), stops_of(wanted))
        if calling is not None:
            made = with_calls(made, calling)
        prefix = "chatcmpl" if chat else "cmpl"
        form = Form(f"{prefix}-{uuid.uuid4().hex}", config.name, chat, int(self._now()), with_usage)
        if wanted.stream:
            return Pending(_first(made), lambda first: Streamed(STREAM_HEAD, _events(form, first, made)))
        return Pending(joined(made), lambda piece: json_reply(form.whole(piece)))

    def _form(self, wanted: TextRequest, config: ModelConfig) -> tuple[Calling | None, _Further]:
        """What may be called, and field -> the parameters for the model that the form of the answer asks for."""
        if not isinstance(wanted, ChatRequest):
            return None, {}
        calling = calling_of(wanted, config, self._defaults.tool_call_parser)
        further: _Further = {}
        if calling is not None:
            further["tools"] = {"tools": calling.parameters["tools"]}
            if "json_schema" in calling.parameters:
                further["tool_choice"] = {"json_schema": calling.parameters["json_schema"]}
        if form := form_parameters(wanted):
            if calling is not None:
                raise RefusedError(
                    "response_format", "'response_format' must be text where 'tools' may be called: calls have a form"
                )
            further["response_format"] = form
        if any("json_schema" in each for each in further.values()):
            for field in ("ignore_eos", "min_tokens"):
                if getattr(wanted, field):
                    raise RefusedError(field, f"'{field}' is not supported where the answer is JSON, which has an end")
        return calling, further


async def _first(made: AsyncGenerator[Piece, None]) -> Piece | None:
    """The first piece, which decides the status of a stream; None where there is none."""
    return await anext(made, None)


async def _events(form: Form, first: Piece | None, made: AsyncGenerator[Piece, None]) -> AsyncGenerator[bytes, None]:
    usage, offset = None, 0
    try:
        if opening := form.opening():
            yield opening
        piece = first
        while piece is not None:
            if told := form.piece(piece, offset):
                yield told
            offset += len(piece.text)
            usage = piece.usage or usage
            piece = await anext(made, None)
        if form.with_usage and usage is not None:
            yield form.usage(usage)
        yield DONE
    except ConchError as error:  # the status is told already
        yield event(error_document(error))
    finally:
        await made.aclose()
