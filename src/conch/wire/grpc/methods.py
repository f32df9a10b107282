"""RPCs as functions from one protobuf message to another."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from conch.tensor.tensor import Buffer
from conch.wire.grpc.calls import Parts, Pending
from conch.wire.grpc.dispatch import UnaryMethod
from conch.wire.grpc.head import Metadata
from conch.wire.grpc.outcome import RpcError, Status

INFERENCE_SERVICE = "inference.GRPCInferenceService"


def unary(path: str, request_type: Any, answer: Callable[[Any], Any]) -> UnaryMethod:
    """The method at `path` that parses a `request_type` and sends the message `answer` returns (or awaits)."""

    def handle(message: Buffer, metadata: Metadata) -> Parts | Pending:
        result = answer(parse(request_type, message))
        return Pending(result, _serialize) if inspect.isawaitable(result) else _serialize(result)

    return UnaryMethod(path, handle)


def parse(message_type: Any, data: Buffer) -> Any:
    """The protobuf message in `data`.

    Raises:
        RpcError: it is none of that type.
    """
    try:
        return message_type.FromString(bytes(data))
    except DecodeError as error:
        raise RpcError(Status.INTERNAL, "Unable to parse request") from error


def _serialize(message: Any) -> Parts:
    return [message.SerializeToString()]
