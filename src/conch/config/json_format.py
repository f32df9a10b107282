"""A model configuration as JSON, the way Triton prints it: what clients read and what Python models are given.

All fields of a message are printed in the order of the .proto file, defaults included; message fields and members of a
oneof only where they are set. 64-bit integers are numbers, unlike in protobuf's own JSON.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from conch.config.proto import Field, MessageType
from conch.config.support import is_map

#: Fields that Triton 2.51 does not know yet: printed only where a configuration sets them.
LATER_FIELDS = frozenset({"inference.ModelEnsembling.max_inflight_requests"})


def to_dict(message: Message) -> dict[str, Any]:
    """A message of model_config.proto as JSON values."""
    printed: dict[str, Any] = {}
    kind: MessageType = message.DESCRIPTOR
    for field in kind.fields:
        if is_map(field):
            value_field = field.message_type.fields_by_name["value"]
            entries = getattr(message, field.name)
            printed[field.name] = {_key(key): _value(value_field, entries[key]) for key in entries}
        elif field.is_repeated:
            printed[field.name] = [_value(field, value) for value in getattr(message, field.name)]
        elif field.full_name in LATER_FIELDS and getattr(message, field.name) == field.default_value:
            continue
        elif not field.has_presence or message.HasField(field.name):
            printed[field.name] = _value(field, getattr(message, field.name))
    return printed


def to_json(message: Message) -> str:
    """A configuration as JSON text: `args["model_config"]` of a Python model, `GET /v2/models/M/config`."""
    return json.dumps(to_dict(message), separators=(",", ":"), ensure_ascii=False)


def _key(key: object) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)


def _value(field: Field, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return to_dict(value)
    if field.type == FieldDescriptor.TYPE_ENUM:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        # The shortest decimal that reads back as the same 32-bit float, not the 64-bit expansion of it.
        shortest = float(str(np.float32(value))) if field.type == FieldDescriptor.TYPE_FLOAT else float(value)
        return int(shortest) if shortest.is_integer() else shortest
    return value
