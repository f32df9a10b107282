"""What a call from one model to another costs, as the calling model sees it (business logic scripting).

    TRITON='tritonserver --model-repository={repository} --http-port={http} --grpc-port={grpc} \\
        --metrics-port={metrics}' python -m bench.bls [--rounds 5] [--json FILE]

A Python model calls an identity model (a Python model, too) many times in one `execute` and reports microseconds a
call. The processor time of a call is that of the server and both models.
Rounds alternate between conch and, where TRITON is given, Triton; the medians over the rounds are quoted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton_grpc

from bench.alternating import alternate
from bench.processes import Server

IDENTITY = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", request.inputs()[0].as_numpy())]) for request in requests
        ]
"""

#: Input: elements of the tensor, calls, how many of them at once. Output: microseconds a call.
CALLER = """
import asyncio
import time

import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(*request.inputs()[0].as_numpy().tolist()) for request in requests]

    def answer(self, elements, calls, at_once):
        self.values = np.zeros(elements, dtype=np.float32)
        started = time.perf_counter()
        if at_once == 1:
            for _ in range(calls):
                self.check(self.request().exec())
        else:
            asyncio.run(self.call_at_once(calls, at_once))
        spent_us = (time.perf_counter() - started) / calls * 1e6
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([spent_us], dtype=np.float32))])

    async def call_at_once(self, calls, at_once):
        for _ in range(calls // at_once):
            for response in await asyncio.gather(*(self.request().async_exec() for _ in range(at_once))):
                self.check(response)

    def request(self):
        inputs = [pb_utils.Tensor("IN", self.values)]
        return pb_utils.InferenceRequest(model_name="identity", inputs=inputs, requested_output_names=["OUT"])

    def check(self, response):
        assert not response.has_error() and response.output_tensors()[0].as_numpy().size == self.values.size
"""

CONFIG = """
backend: "python"
input {{ name: "IN" data_type: {} dims: -1 }}
output {{ name: "OUT" data_type: TYPE_FP32 dims: -1 }}
"""

#: Name -> elements of the tensor, calls, how many of them at once.
CASES = {
    "64 bytes": (16, 1000, 1),
    "64 bytes, 8 at once": (16, 1000, 8),
    "600 kilobytes": (150_000, 300, 1),
    "600 kilobytes, 8 at once": (150_000, 304, 8),
}


def write(repository: Path) -> None:
    """The two models."""
    for name, source, datatype in (("identity", IDENTITY, "TYPE_FP32"), ("caller", CALLER, "TYPE_INT32")):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / "model.py").write_text(source)
        (repository / name / "config.pbtxt").write_text(f'name: "{name}"' + CONFIG.format(datatype))


def measure(server: Server) -> dict[str, float]:
    """Microseconds a call, by case, on the clock and of processor time."""
    found = {}
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
        for name, (elements, calls, at_once) in CASES.items():
            for count in (calls // 5, calls):  # the first one warms up
                values = triton_grpc.InferInput("IN", [3], "INT32")
                values.set_data_from_numpy(np.array([elements, count, at_once], dtype=np.int32))
                before_s = server.cpu_s()
                answer = client.infer("caller", [values]).as_numpy("OUT")
            found[name] = float(answer[0])
            found[f"{name}, processor"] = (server.cpu_s() - before_s) / calls * 1e6
    return found


if __name__ == "__main__":
    sys.exit(alternate("us a call", write, measure))
