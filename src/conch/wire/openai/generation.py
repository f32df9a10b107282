"""`POST /v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable

from conch.core.api import ServerApi
from conch.errors import ConchError
from conch.wire.http.infer import traceparent
from conch.wire.http.messages import HttpRequest, Outcome, Pending, Streamed, json_reply
from conch.wire.openai.errors import RefusedError, error_document
from conch.wire.openai.models import MESSAGES, TEXT, find_for
from conch.wire.openai.prompts import conversation, one_prompt
from conch.wire.openai.replies import DONE, STREAM_HEAD, Form, event
from conch.wire.openai.requests import ChatRequest, CompletionRequest, TextRequest, decode
from conch.wire.openai.sampling import check_offered, model_parameters, stops_of
from conch.wire.openai.texts import Piece, counts_tokens, joined, pieces, text_request


class GenerationEndpoint:
    """Both endpoints.

    Args:
        default_max_tokens: tokens of an answer where the request does not say.
        now: seconds since the epoch.
    """

    def __init__(self, server: ServerApi, default_max_tokens: int, now: Callable[[], float]) -> None:
        self._server = server
        self._default_max_tokens = default_max_tokens
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
        parameters = model_parameters(wanted, config, self._default_max_tokens)
        if isinstance(wanted, ChatRequest):
            infer = text_request(config, MESSAGES, [conversation(wanted.messages)], parameters)
        else:
            infer = text_request(config, TEXT, [one_prompt(wanted.prompt)], parameters)
        tracing = self._server.tracing
        if tracing.active:
            infer = tracing.begin(infer, traceparent(request.headers))
        made = pieces(config, self._server.infer(infer), stops_of(wanted))
        prefix = "chatcmpl" if chat else "cmpl"
        form = Form(f"{prefix}-{uuid.uuid4().hex}", config.name, chat, int(self._now()), with_usage)
        if wanted.stream:
            return Pending(_first(made), lambda first: Streamed(STREAM_HEAD, _events(form, first, made)))
        return Pending(joined(made), lambda piece: json_reply(form.whole(piece)))


async def _first(made: AsyncGenerator[Piece, None]) -> Piece | None:
    """The first piece, which decides the status of a stream; None where there is none."""
    return await anext(made, None)


async def _events(form: Form, first: Piece | None, made: AsyncGenerator[Piece, None]) -> AsyncGenerator[bytes, None]:
    usage = None
    try:
        if opening := form.opening():
            yield opening
        piece = first
        while piece is not None:
            if told := form.piece(piece):
                yield told
            usage = piece.usage or usage
            piece = await anext(made, None)
        if form.with_usage and usage is not None:
            yield form.usage(usage)
        yield DONE
    except ConchError as error:  # the status is told already
        yield event(error_document(error))
    finally:
        await made.aclose()
