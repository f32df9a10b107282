"""Requests as clients write them."""

from __future__ import annotations

from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb


def infer_request(
    model: str = "echo",
    *,
    request_id: str = "",
    raw: bytes | None = b"\0\0\x80\x3f",
    shape: tuple[int, ...] | None = None,
    datatype: str = "FP32",
    parameters: dict[str, tuple[str, Any]] | None = None,
    **contents: Any,
) -> Any:
    """A ModelInferRequest with the input IN0; `parameters` maps names to (field, value)."""
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    shape = (len(raw) // 4,) if shape is None and raw is not None else shape or (1,)
    tensor = request.inputs.add(name="IN0", datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    if raw is not None:
        request.raw_input_contents.append(raw)
    for name, (field, value) in (parameters or {}).items():
        setattr(request.parameters[name], field, value)
    return request


def random_bytes(size: int) -> bytes:
    """`size` (a multiple of 4) bytes that compress badly."""
    return np.random.default_rng(7).integers(0, 256, size, dtype=np.uint8).tobytes()
