"""An inference response as an HTTP reply: JSON head, binary tensors behind it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
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

_BINARY_FORMS = OutputForms(binary_default=True)

#: Name, datatype, shape and size of an output. The datatype is text because hashing an enum is slow.
_Described = tuple[str, str, tuple[int, ...], int]


def encode_infer(response: InferResponse, request: InferRequest, forms: OutputForms, view: ModelView) -> Reply:
    """The reply to an inference. Binary outputs are parts of it, not copies; those in shared memory are only named.

    Raises:
        InvalidArgumentError: an output has no JSON form, or cannot be classified.
        InternalError: an output's data does not fit its shape.
    """
    if forms.plain:
        return encode_plain(response)
    outputs = response.outputs if not request.outputs else _classified(response, request, view)
    return _encode(response, outputs, forms)


def encode_plain(response: InferResponse) -> Reply:
    """The reply to an inference that asked for nothing but binary outputs."""
    if response.parameters:
        return _encode(response, response.outputs, _BINARY_FORMS)
    described = tuple([(t.name, t.datatype._value_, t.shape, len(t.data)) for t in response.outputs])
    describe = _describe_once if not response.id else _describe
    head, length, text, start = describe(response.id, response.model_name, response.model_version, described)
    return Reply(head, length, (text, *[tensor.data for tensor in response.outputs]), start)


def _encode(response: InferResponse, outputs: Sequence[Tensor], forms: OutputForms) -> Reply:
    document = _document(response.id, response.model_name, response.model_version)
    if response.parameters:
        document["parameters"] = response.parameters
    entries: list[dict[str, Any]] = []
    tails: list[Buffer] = []
    non_finite = False
    for tensor in outputs:
        entry = _entry(tensor.name, tensor.datatype.value, tensor.shape)
        entries.append(entry)
        if tensor.name in forms.areas:
            continue
        if forms.binary.get(tensor.name, forms.binary_default):
            entry["parameters"] = {"binary_data_size": len(tensor.data)}
            tails.append(tensor.data)
        else:
            entry["data"], has_non_finite = json_data_of_tensor(tensor)
            non_finite |= has_non_finite
    document["outputs"] = entries
    return _binary_reply(encode_json(document, non_finite=non_finite), sum(map(len, tails)), tails)


def _document(request_id: str, model_name: str, model_version: str) -> dict[str, Any]:
    document: dict[str, Any] = {"id": request_id} if request_id else {}
    document["model_name"] = model_name
    document["model_version"] = model_version
    return document


def _entry(name: str, datatype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _describe(
    request_id: str, model_name: str, model_version: str, outputs: tuple[_Described, ...]
) -> tuple[bytes, int, bytes, bytes]:
    """The head, length, JSON text and start of a reply whose outputs are all binary."""
    document = _document(request_id, model_name, model_version)
    document["outputs"] = [
        {**_entry(name, datatype, shape), "parameters": {"binary_data_size": size}}
        for name, datatype, shape, size in outputs
    ]
    text = encode_json(document)
    reply = _binary_reply(text, sum(output[3] for output in outputs), ())
    return reply.head, reply.length, text, reply.head + str(reply.length).encode() + b"\r\n\r\n"


#: Responses without an id are alike but for the data: what is equal is encoded once.
_describe_once = lru_cache(maxsize=1024)(_describe)


def _binary_reply(text: bytes, size: int, tails: Sequence[Buffer]) -> Reply:
    """A JSON text with `size` bytes in `tails` behind it."""
    if not size:  # as in Triton, empty tensors do not make a response binary
        return json_text_reply(text)
    return Reply(_BINARY_HEAD + str(len(text)).encode() + _CONTENT_LENGTH, len(text) + size, (text, *tails))


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
