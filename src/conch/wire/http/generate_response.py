"""The responses to generate requests: flat JSON objects, alone or as server-sent events."""

from __future__ import annotations

from typing import Any

from conch.errors import ConchError
from conch.inference import InferResponse
from conch.wire.http.json_tensor import json_data_of_tensor
from conch.wire.http.json_text import encode_json
from conch.wire.http.messages import Reply, head

_EVENTS = "text/event-stream; charset=utf-8"

#: Statuses a generate reply can have: Triton answers every error of a model with 400.
_SUCCESS, _FAILURE = 200, 400

_JSON_HEADS = {status: head(status, "application/json") for status in (_SUCCESS, _FAILURE)}
_EVENT_HEADS = {status: head(status, _EVENTS) for status in (_SUCCESS, _FAILURE)}
_STREAM_HEADS = {status: raw.removesuffix(b"Content-Length: ") for status, raw in _EVENT_HEADS.items()}

#: One response, or the error in its place.
Outcome = InferResponse | ConchError


def status_of(outcome: Outcome) -> int:
    """The HTTP status of a reply that begins with this outcome."""
    return _FAILURE if isinstance(outcome, ConchError) else _SUCCESS


def encode_outcome(outcome: Outcome) -> bytes:
    """One outcome as JSON: outputs, response parameters, id, model_name and model_version side by side, sorted by key.

    Outputs of one element are that element, others a flat array.

    Raises:
        InvalidArgumentError: an output has no JSON form (FP16, BF16).
        InternalError: an output's data does not fit its shape.
    """
    if isinstance(outcome, ConchError):
        return encode_json({"error": outcome.message})
    document: dict[str, Any] = {"model_name": outcome.model_name, "model_version": outcome.model_version}
    if outcome.id:
        document["id"] = outcome.id
    document.update(outcome.parameters)
    non_finite = False
    for tensor in outcome.outputs:
        elements, has_non_finite = json_data_of_tensor(tensor)
        document[tensor.name] = elements[0] if len(elements) == 1 else elements
        non_finite |= has_non_finite
    return encode_json({key: document[key] for key in sorted(document)}, non_finite=non_finite)


def encode_event(outcome: Outcome) -> bytes:
    """One outcome as a server-sent event; what cannot be encoded becomes an error."""
    try:
        text = encode_outcome(outcome)
    except ConchError as error:
        text = encode_outcome(error)
    return b"data: %b\n\n" % text


def outcome_reply(outcome: Outcome, status: int | None = None) -> Reply:
    """The whole answer to `generate`."""
    text = encode_outcome(outcome)
    return Reply(_JSON_HEADS[status or status_of(outcome)], len(text), (text,))


def event_reply(outcome: Outcome) -> Reply:
    """The whole answer to `generate_stream` of a model that answers once."""
    text = encode_event(outcome)
    return Reply(_EVENT_HEADS[status_of(outcome)], len(text), (text,))


def stream_head(status: int) -> bytes:
    """Status line and headers of a stream of events, without any that tells its length."""
    return _STREAM_HEADS[status]


def no_events() -> Reply:
    """A stream that ended without an event."""
    return Reply(_EVENT_HEADS[_SUCCESS], 0, ())
