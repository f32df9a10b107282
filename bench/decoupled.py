"""How fast the responses of a decoupled model reach the client of a gRPC stream.

    TRITON='tritonserver --model-repository={repository} --http-port={http} --grpc-port={grpc} \\
        --metrics-port={metrics}' python -m bench.decoupled [--rounds 5] [--json FILE]

A Python model answers one request with 1,000 responses as fast as it can; the time is taken from request to last
response, which the client only counts. Rounds alternate between conch and, where TRITON is given, Triton.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from bench.alternating import alternate
from bench.processes import Server

MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            elements, responses = request.inputs()[0].as_numpy().tolist()
            values = np.zeros(elements, dtype=np.float32)
            sender = request.get_response_sender()
            for _ in range(responses):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

CONFIG = """
name: "repeat"
backend: "python"
input { name: "IN" data_type: TYPE_INT32 dims: 2 }
output { name: "OUT" data_type: TYPE_FP32 dims: -1 }
model_transaction_policy { decoupled: true }
"""

#: Name -> elements of a response's tensor, responses.
CASES = {"1,000 of 64 bytes": (16, 1000), "1,000 of 4 kilobytes": (1000, 1000)}
_REPETITIONS = 5


def write(repository: Path) -> None:
    """The model."""
    (repository / "repeat" / "1").mkdir(parents=True)
    (repository / "repeat" / "1" / "model.py").write_text(MODEL)
    (repository / "repeat" / "config.pbtxt").write_text(CONFIG)


def measure(server: Server) -> dict[str, float]:
    """Milliseconds for all responses, by case: the median of some repetitions."""
    found = {}
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        for name, (elements, responses) in CASES.items():
            times = [_stream(channel, elements, responses) for _ in range(_REPETITIONS + 1)]
            found[name] = float(np.median(times[1:])) * 1e3
    return found


def _stream(channel: grpc.Channel, elements: int, responses: int) -> float:
    """Seconds until all responses to one request have come."""
    request = service_pb2.ModelInferRequest(model_name="repeat")
    request.inputs.add(name="IN", datatype="INT32", shape=[2])
    request.raw_input_contents.append(np.array([elements, responses], dtype=np.int32).tobytes())

    def requests() -> Iterator[bytes]:
        yield request.SerializeToString()

    call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    started = time.perf_counter()
    count = sum(1 for _ in call(requests()))
    if count != responses:
        raise RuntimeError(f"expected {responses} responses, got {count}")
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(alternate("ms", write, measure))
