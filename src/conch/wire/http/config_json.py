"""A model configuration as Triton prints it: every field with its default, enums by name, int64 as numbers."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from conch.config.json_format import LATER_FIELDS


def config_json(message: Message) -> dict[str, Any]:
    """The message as a JSON object.

    Unlike protobuf's own JSON, int64 are numbers and not strings. Singular messages and members of a oneof show only
    when set; everything else always shows, in the order of the .proto file.
    """
    document: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        if field.full_name in LATER_FIELDS and getattr(message, field.name) == field.default_value:
            continue
        document[field.name] = _field_json(field, getattr(message, field.name))
    return document


def _field_json(field: Any, value: Any) -> Any:
    if not field.is_repeated:
        return _value_json(field, value)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value_field = field.message_type.fields_by_name["value"]
        return {str(key): _value_json(value_field, value[key]) for key in sorted(value)}
    return [_value_json(field, item) for item in value]


def _value_json(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return config_json(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return value
