"""An inference response as an HTTP reply: JSON head, binary tensors behind it."""

from __future__ import annotations

from typing import Any

from conch.core.api import ModelView
from conch.inference import InferRequest, InferResponse
from conch.tensor import Tensor
from conch.tensor.tensor import Buffer
from conch.wire.codec.classification import classify
from conch.wire.http.infer_request import OutputForms
from conch.wire.http.json_tensor import json_data_of_tensor
from conch.wire.http.json_text import encode_json
from conch.wire.http.messages import Reply, json_text_reply

_BINARY_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nInference-Header-Content-Length: "
_CONTENT_LENGTH = b"\r\nContent-Length: "


def encode_infer(response: InferResponse, request: InferRequest, forms: OutputForms, view: ModelView) -> Reply:
    """The reply to an inference. Binary outputs are parts of it, not copies.

    Raises:
        InvalidArgumentError: an output has no JSON form, or cannot be classified.
        InternalError: an output's data does not fit its shape.
    """
    document: dict[str, Any] = {"id": response.id} if response.id else {}
    document["model_name"] = response.model_name
    document["model_version"] = response.model_version
    if response.parameters:
        document["parameters"] = response.parameters
    outputs: list[dict[str, Any]] = []
    tails: list[Buffer] = []
    non_finite = False
    for tensor in _classified(response, request, view):
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype.value, "shape": tensor.shape}
        if forms.binary.get(tensor.name, forms.binary_default):
            size = len(tensor.data)
            entry["parameters"] = {"binary_data_size": size}
            if size:
                tails.append(tensor.data)
        else:
            entry["data"], has_non_finite = json_data_of_tensor(tensor)
            non_finite |= has_non_finite
        outputs.append(entry)
    document["outputs"] = outputs
    text = encode_json(document, non_finite=non_finite)
    if not tails:
        return json_text_reply(text)
    length = len(text) + sum(map(len, tails))
    return Reply(_BINARY_HEAD + str(len(text)).encode() + _CONTENT_LENGTH, length, (text, *tails))


def _classified(response: InferResponse, request: InferRequest, view: ModelView) -> tuple[Tensor, ...]:
    """The outputs, those asked for as classes replaced by them."""
    classes = {output.name: output.classification for output in request.outputs if output.classification}
    if not classes:
        return response.outputs
    batched = view.config.max_batch_size > 0
    return tuple(
        classify(
            tensor,
            classes[tensor.name],
            lambda index, name=tensor.name: view.label(name, index),  # type: ignore[misc]
            batched,
        )
        if tensor.name in classes
        else tensor
        for tensor in response.outputs
    )


def compressed(reply: Reply, body: bytes, coding: str) -> Reply:
    """`reply` with its body replaced by `body`, which is its body in that content coding."""
    encoding = f"\r\nContent-Encoding: {coding}\r\nContent-Length: ".encode()
    return Reply(reply.head.removesuffix(_CONTENT_LENGTH) + encoding, len(body), (body,))
