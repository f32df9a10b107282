"""InferResponse to ModelInferResponse."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from conch.inference import InferResponse
from conch.tensor import DataType, Tensor
from conch.wire.grpc.response_encoder import ResponseEncoder


def test_response_is_what_protobuf_would_write() -> None:
    tensors = (
        Tensor("A", DataType.INT64, (2, 0), b""),
        Tensor("B", DataType.BYTES, (1,), b"\1\0\0\0x"),
        Tensor("C", DataType.FP32, (-1 + 2, 300), memoryview(bytes(1200))),
    )
    parameters = {"i": 2, "b": True, "s": "x", "d": 0.5, "u": 2**63}
    response = InferResponse("m", "3", "id", tensors, parameters)
    written = pb.ModelInferResponse.FromString(b"".join(ResponseEncoder().encode(response)))
    assert (written.model_name, written.model_version, written.id) == ("m", "3", "id")
    assert [(o.name, o.datatype, tuple(o.shape)) for o in written.outputs] == [
        ("A", "INT64", (2, 0)),
        ("B", "BYTES", (1,)),
        ("C", "FP32", (1, 300)),
    ]
    assert list(written.raw_output_contents) == [b"", b"\1\0\0\0x", bytes(1200)]
    kinds = {name: value.WhichOneof("parameter_choice") for name, value in written.parameters.items()}
    assert kinds == {
        "i": "int64_param",
        "b": "bool_param",
        "s": "string_param",
        "d": "double_param",
        "u": "uint64_param",
    }
