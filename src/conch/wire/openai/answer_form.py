"""The form of an answer, `response_format`: as the schema that the model's text has to be JSON of."""

from __future__ import annotations

import json
from typing import Any

from conch.inference import Parameter
from conch.wire.openai.errors import RefusedError
from conch.wire.openai.requests import ChatRequest

_FIELDS = frozenset({"name", "description", "schema", "strict"})


def form_parameters(request: ChatRequest) -> dict[str, Parameter]:
    """The request parameters that enforce the form; none for text.

    Raises:
        RefusedError: the form is unknown or wrong.
    """
    form = request.response_format
    kind = None if form is None else form.get("type")
    if form is None or kind == "text":
        return {}
    if kind == "json_object":
        return {"json_schema": '{"type": "object"}'}
    if kind != "json_schema":
        raise RefusedError(
            "response_format",
            f"'response_format.type' must be text, json_object or json_schema, got {json.dumps(kind)}",
        )
    return {"json_schema": json.dumps(_schema(form.get("json_schema")), ensure_ascii=False)}


def _schema(described: Any) -> dict[str, Any]:
    place = "response_format.json_schema"
    if not isinstance(described, dict):
        raise RefusedError(place, f"'{place}' must be an object with a name and a schema")
    for field in described:
        if field not in _FIELDS:
            raise RefusedError(f"{place}.{field}", f"'{place}.{field}' is not supported")
    schema = described.get("schema")
    if not isinstance(schema, dict):
        raise RefusedError(f"{place}.schema", f"'{place}.schema' must be a JSON schema")
    return schema
