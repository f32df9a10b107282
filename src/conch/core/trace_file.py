"""Traces as Triton's JSON files: an array of moments and tensors, each with the id of its trace."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from conch.tensor import DataType, Tensor
from conch.trace import RequestTrace

logger = logging.getLogger("conch.core.trace_file")


class TraceFiles:
    """Implements `conch.core.tracing.TraceSink`: `PATH` for what is written along, `PATH.0`, `PATH.1`, ... numbered."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._number = 0
        self._file: IO[str] | None = None

    def write(self, traces: Sequence[RequestTrace], numbered: bool) -> None:
        """Write these traces to the next numbered file, or at the end of the one without a number.

        A file that cannot be written is logged; serving goes on.
        """
        text = ",".join(
            json.dumps(entry, separators=(",", ":"), ensure_ascii=False) for trace in traces for entry in entries(trace)
        )
        try:
            if numbered:
                with Path(f"{self._path}.{self._number}").open("w", encoding="utf-8") as file:
                    file.write(f"[{text}]")
                self._number += 1
            elif self._file is None:
                self._file = Path(self._path).open("w", encoding="utf-8")  # noqa: SIM115 - until `close`
                self._file.write(f"[{text}")
            else:
                self._file.write(f",{text}")
        except OSError as error:
            logger.error("cannot write traces to %s: %s", self._path, error)

    def close(self) -> None:
        """End the array of the file without a number."""
        file, self._file = self._file, None
        if file is not None:
            with file:
                file.write("]")


def entries(trace: RequestTrace) -> Iterator[dict[str, Any]]:
    """What a file says of a trace and its parts; nothing of a request that no model accepted."""
    if not trace.model_name:
        return
    model: dict[str, Any] = {"id": trace.id, "model_name": trace.model_name, "model_version": trace.model_version}
    if trace.request_id:
        model["request_id"] = trace.request_id
    if trace.parent is not None:
        model["parent_id"] = trace.parent.id
    told = False
    for name, moment_ns in trace.moments:
        if name == "REQUEST_START":
            told = True
            yield model
        if name == "INFER_RESPONSE_COMPLETE":
            yield from _activities(trace, "TENSOR_BACKEND_OUTPUT")
        yield {"id": trace.id, "timestamps": [{"name": name, "ns": moment_ns}]}
        if name == "QUEUE_START":
            yield from _activities(trace, "TENSOR_QUEUE_INPUT")
    if not told:  # timestamps are off
        yield model
        yield from _activities(trace, "TENSOR_QUEUE_INPUT")
    if not told or trace.parent is not None:
        yield from _activities(trace, "TENSOR_BACKEND_OUTPUT")
    for part in trace.parts:
        yield from entries(part)


def _activities(trace: RequestTrace, activity: str) -> Iterator[dict[str, Any]]:
    for name, tensor in trace.tensors:
        if name == activity:
            described = {
                "name": tensor.name,
                "data": _text(tensor),
                "shape": ",".join(map(str, tensor.shape)),
                "dtype": tensor.datatype.value,
            }
            yield {"id": trace.id, "activity": activity, "tensor": described}


def _text(tensor: Tensor) -> str:
    """The elements, comma by comma."""
    elements = tensor.as_numpy().reshape(-1)
    if tensor.datatype is DataType.BYTES:
        return ",".join(f'"{element.decode(errors="replace")}"' for element in elements)
    if tensor.datatype is DataType.BF16:
        elements = (elements.astype(np.uint32) << 16).view(np.float32)
    if elements.dtype.kind == "f":
        return ",".join(f"{float(element):g}" for element in elements)
    return ",".join(str(int(element)) for element in elements)
