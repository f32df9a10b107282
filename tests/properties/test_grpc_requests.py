"""A decoder that has seen many requests reads each as one that sees it first."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from conch.inference import Form, InferRequest
from conch.wire.grpc.request_decoder import RequestDecoder, UndecodableRequest
from conch.wire.shared_memory import SharedMemoryRegions


@st.composite
def _messages(draw: st.DrawFn) -> bytes:
    request = pb.ModelInferRequest(
        model_name=draw(st.sampled_from(["m", "other"])), id=draw(st.sampled_from(["", "7"]))
    )
    for name in draw(st.sampled_from([("A",), ("A", "B"), ("B", "A")])):
        tensor = request.inputs.add(name=name, datatype=draw(st.sampled_from(["UINT8", "INT8", "BYTES"])))
        tensor.shape.append(draw(st.integers(0, 3)))
    for output in draw(st.sampled_from([(), ("OUT",)])):
        request.outputs.add(name=output)
    sizes = st.sampled_from([0, 1, 2, 3, 1500])
    request.raw_input_contents.extend(draw(st.lists(sizes.map(lambda size: b"x" * size), min_size=1, max_size=3)))
    message = request.SerializeToString()
    return message if draw(st.booleans()) else message + b"\x0a\x01m"  # a field behind the tensors


def _read(decoder: RequestDecoder, message: bytes) -> tuple[InferRequest | str, Form | None]:
    try:
        request = decoder.decode(message)
    except UndecodableRequest as fault:
        return str(fault), None
    return msgspec.structs.replace(request, form=None), request.form


@settings(max_examples=200, deadline=None)
@given(st.lists(_messages(), min_size=1, max_size=8))
def test_what_was_decoded_before_changes_nothing(messages: list[bytes]) -> None:
    seasoned = RequestDecoder(SharedMemoryRegions())
    inputs_by_form: dict[Form, object] = {}
    for message in messages * 2:
        request, form = _read(seasoned, message)
        assert request == _read(RequestDecoder(SharedMemoryRegions()), message)[0]
        if form is not None:
            assert isinstance(request, InferRequest)
            described = [(each.name, each.datatype, each.shape, len(each.data)) for each in request.inputs]
            assert inputs_by_form.setdefault(form, (described, request.outputs)) == (described, request.outputs)
