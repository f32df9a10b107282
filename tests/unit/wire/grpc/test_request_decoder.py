"""ModelInferRequest to InferRequest, and the texts of what is wrong with one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conch.inference import InferRequest
from conch.wire.grpc.request_decoder import RequestDecoder, UndecodableRequest
from conch.wire.shared_memory import Region, SharedMemoryRegions
from tests.posix_memory import PREFIX, shared_object
from tests.unit.wire.grpc.messages import infer_request


def decode(request: Any) -> InferRequest:
    return RequestDecoder(SharedMemoryRegions()).decode(request.SerializeToString())


def fault(request: Any) -> str:
    with pytest.raises(UndecodableRequest) as caught:
        decode(request)
    return str(caught.value)


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-1, 2]),
        ("INT16", "int_contents", [-300, 2]),
        ("INT32", "int_contents", [-70000, 2]),
        ("INT64", "int64_contents", [-(2**40), 2]),
        ("UINT8", "uint_contents", [255, 2]),
        ("UINT16", "uint_contents", [65535, 2]),
        ("UINT32", "uint_contents", [2**32 - 1, 2]),
        ("UINT64", "uint64_contents", [2**64 - 1, 2]),
        ("FP32", "fp32_contents", [1.5, -2.0]),
        ("FP64", "fp64_contents", [1e300, -2.0]),
        ("BYTES", "bytes_contents", [b"a", b"\xff\0"]),
    ],
)
def test_typed_contents_become_raw_elements(datatype: str, field: str, values: list[Any]) -> None:
    [tensor] = decode(infer_request(raw=None, shape=(2,), datatype=datatype, **{field: values})).inputs
    assert (tensor.datatype.value, tensor.shape) == (datatype, (2,))
    assert tensor.as_numpy().tolist() == values


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (infer_request(raw=None), "unable to find data for input tensor 'IN0' for model 'echo' in request."),
        (
            infer_request(raw=None, int_contents=[1]),
            "unexpected explicit tensor data for input tensor 'IN0' for model 'echo' of type 'INT32', expected datatype"
            " 'FP32'",
        ),
        (
            infer_request(raw=None, datatype="NOPE", fp32_contents=[1]),
            "unexpected explicit tensor data for input tensor 'IN0' for model 'echo' of type 'FP32', expected datatype"
            " '<invalid>'",
        ),
        (
            infer_request(raw=None, datatype="FP16", fp32_contents=[1]),
            "unexpected explicit tensor data for input tensor 'IN0' for model 'echo' of type 'FP32', expected datatype"
            " 'FP16'",
        ),
        (
            infer_request(raw=None, fp32_contents=[1], int64_contents=[1]),
            "unexpected explicit tensor data for input tensor 'IN0' for model 'echo' of type 'INT64', expected datatype"
            " 'FP32'",
        ),
        (
            infer_request(raw=None, datatype="INT64", fp32_contents=[1], int64_contents=[1]),
            "unexpected explicit tensor data for input tensor 'IN0' for model 'echo', binary data was already "
            "supplied.",
        ),
        (
            infer_request(fp32_contents=[1]),
            "contents field must not be specified when using raw_input_contents for 'IN0' for model 'echo'",
        ),
        (infer_request(datatype="NOPE"), "invalid datatype 'NOPE' for input 'IN0'"),
    ],
)
def test_wrong_data_is_named_in_tritons_words(request_: Any, text: str) -> None:
    assert fault(request_) == text


def test_second_input_without_raw_contents_is_named() -> None:
    request = infer_request()
    request.inputs.add(name="IN1", datatype="FP32", shape=[1])
    assert fault(request) == "unable to find data for input tensor 'IN1' for model 'echo' in request."


def test_superfluous_raw_contents_are_ignored_as_in_triton() -> None:
    request = infer_request()
    request.raw_input_contents.append(b"more")
    assert len(decode(request).inputs) == 1


def test_input_named_twice_is_refused() -> None:
    request = infer_request(request_id="7")
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(b"abcd")
    assert fault(request) == "[request id: 7] input 'IN0' already exists in request"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "sequence_id",
            ("bool_param", True),
            "invalid value type for 'sequence_id' parameter, expected int64_param or string_param.",
        ),
        ("sequence_id", ("string_param", "x" * 129), "string correlation ID cannot be longer than 128 characters"),
        (
            "sequence_start",
            ("int64_param", 1),
            "invalid value type for 'sequence_start' parameter, expected bool_param.",
        ),
        (
            "priority",
            ("string_param", "1"),
            "invalid value type for 'priority' parameter, expected int64_param or uint64_param.",
        ),
        ("priority", ("int64_param", -1), "invalid value for 'priority', expected value >= 0."),
        ("timeout", ("int64_param", -1), "invalid value for 'timeout', expected value >= 0."),
        ("timeout", ("string_param", "1"), "invalid value type for 'timeout' parameter, expected int64_param."),
        (
            "foo",
            ("uint64_param", 1),
            "invalid value type for 'foo' parameter, expected int64_param, bool_param, or string_param.",
        ),
        (
            "triton_x",
            ("int64_param", 1),
            "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys starting "
            "with 'triton_' are allowed: triton_enable_empty_final_response",
        ),
        (
            "triton_enable_empty_final_response",
            ("int64_param", 1),
            "invalid value type for 'triton_enable_empty_final_response' parameter, expected bool_param.",
        ),
    ],
)
def test_wrong_parameters_are_refused_in_tritons_words(name: str, value: tuple[str, Any], text: str) -> None:
    assert fault(infer_request(parameters={name: value})) == text


def test_parameters_with_a_meaning_become_fields() -> None:
    request = decode(
        infer_request(
            parameters={
                "sequence_id": ("string_param", "s"),
                "sequence_start": ("bool_param", True),
                "sequence_end": ("bool_param", True),
                "priority": ("uint64_param", 3),
                "timeout": ("int64_param", 500),
                "triton_enable_empty_final_response": ("bool_param", True),
                "mine": ("double_param", 1.5),
            }
        )
    )
    assert (request.correlation_id, request.flags, request.priority, request.timeout_us) == ("s", 3, 3, 500)
    assert request.parameters == {"mine": 1.5}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (("string_param", "2"), "invalid value type for 'classification' parameter, expected int64_param"),
        (("int64_param", 0), "invalid value for 'classification' parameter, expected >= 0"),
    ],
)
def test_wrong_classification_is_refused(value: tuple[str, Any], text: str) -> None:
    request = infer_request()
    setattr(request.outputs.add(name="OUT0").parameters["classification"], *value)
    assert fault(request) == text


def test_requested_outputs_keep_their_order_once() -> None:
    request = infer_request()
    for name in ("B", "A", "B"):
        request.outputs.add(name=name)
    assert [output.name for output in decode(request).outputs] == ["B", "A"]


def test_tensors_in_shared_memory_are_used_in_place() -> None:
    with shared_object(f"{PREFIX}codec", np.float32([7]).tobytes()):
        regions = SharedMemoryRegions()
        regions.register(Region("r", f"{PREFIX}codec", 0, 4))
        request = infer_request(raw=None)
        request.inputs[0].parameters["shared_memory_region"].string_param = "r"
        request.inputs[0].parameters["shared_memory_byte_size"].int64_param = 4
        [tensor] = RequestDecoder(regions).decode(request.SerializeToString()).inputs
        assert tensor.as_numpy()[0] == 7
        regions.unregister()
        with pytest.raises(UndecodableRequest, match="Unable to find shared memory region: 'r'"):
            RequestDecoder(regions).decode(request.SerializeToString())


def test_heads_are_remembered_but_not_mixed_up() -> None:
    decoder = RequestDecoder(SharedMemoryRegions())
    for index in range(3000):
        message = infer_request(f"m{index % 1500}", request_id=str(index), raw=np.float32(index).tobytes())
        decoded = decoder.decode(message.SerializeToString())
        assert (decoded.model_name, decoded.id) == (f"m{index % 1500}", str(index))
        assert decoded.inputs[0].as_numpy()[0] == index


def test_head_with_and_without_raw_contents_is_told_apart() -> None:
    decoder = RequestDecoder(SharedMemoryRegions())
    empty = infer_request(raw=None)
    empty.inputs[0].contents.SetInParent()
    assert decoder.decode(empty.SerializeToString()).inputs[0].data == b""
    empty.raw_input_contents.append(b"abcd")
    with pytest.raises(UndecodableRequest, match="contents field must not be specified"):
        decoder.decode(empty.SerializeToString())


def test_headers_do_not_leak_into_later_requests() -> None:
    decoder = RequestDecoder(SharedMemoryRegions())
    message = infer_request().SerializeToString()
    assert decoder.decode(message, {"key": "a"}).parameters == {"key": "a"}
    assert decoder.decode(message).parameters == {}
    assert decoder.decode(message, {"key": "b"}).parameters == {"key": "b"}
