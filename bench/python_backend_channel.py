"""How fast a batch gets to a Python model and back: no wire, no scheduler, one instance of an identity model.

    python bench/python_backend_channel.py [--seconds 3] [--json FILE]

Each case warms up, then runs for a fixed time; reported are requests per second, wall and CPU microseconds a
request, and the median and 99th percentile of a batch's round trip. Parent and child share the machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop

import conch
from conch.backend_api import InstanceSpec, ModelSource
from conch.backends.python.backend import PythonBackend
from conch.config import pbtxt
from conch.core.metrics import CustomMetrics
from conch.inference import InferRequest
from conch.tensor import DataType, Tensor

MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", values)]))
        return responses
"""

CONFIG = """
name: "identity" backend: "python" max_batch_size: 64
input { name: "INPUT0" data_type: TYPE_FP32 dims: -1 }
output { name: "OUTPUT0" data_type: TYPE_FP32 dims: -1 }
"""

#: Elements of a request's tensor, requests of a batch.
CASES = ((16, 1), (16, 8), (16, 16), (16, 32), (150_000, 1), (150_000, 8))


async def measure(instance: Any, elements: int, batch: int, seconds: float) -> dict[str, float]:
    """Requests per second and round trips of one case."""
    values = np.arange(elements, dtype=np.float32).reshape(1, elements)
    request = InferRequest("identity", "1", (Tensor.from_numpy("INPUT0", values, DataType.FP32),))
    requests = [request] * batch
    for _ in range(200 if elements < 1000 else 20):
        await instance.execute(requests)
    trips: list[float] = []
    child = psutil.Process(instance.pid)
    child_before, parent_before = sum(child.cpu_times()[:2]), time.process_time()
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        await instance.execute(requests)
        trips.append(time.perf_counter() - begun)
    elapsed = time.perf_counter() - started
    answered = len(trips) * batch
    rate = answered / elapsed
    parent_s, child_s = time.process_time() - parent_before, sum(child.cpu_times()[:2]) - child_before
    return {
        "elements": elements,
        "batch": batch,
        "requests_per_s": round(rate),
        "us_per_request": round(1e6 / rate, 1),
        "parent_cpu_us_per_request": round(parent_s / answered * 1e6, 1),
        "child_cpu_us_per_request": round(child_s / answered * 1e6, 1),
        "p50_us": round(statistics.median(trips) * 1e6, 1),
        "p99_us": round(sorted(trips)[int(len(trips) * 0.99)] * 1e6, 1),
    }


async def run(seconds: float) -> list[dict[str, float]]:
    """All cases on one instance."""
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "identity"
        (directory / "1").mkdir(parents=True)
        (directory / "1" / "model.py").write_text(MODEL)
        config = pbtxt.from_message(pbtxt.parse(CONFIG))
        source = ModelSource("identity", 1, directory, {})
        backend = PythonBackend()
        started = time.perf_counter()
        spec = InstanceSpec(source, config, "identity_0_0", "CPU", 0, CustomMetrics())
        instance = await backend.load(spec)
        print(f"loaded in {time.perf_counter() - started:.3f} s")
        results = []
        for elements, batch in CASES:
            results.append(await measure(instance, elements, batch, seconds))
            print(results[-1])
        await instance.close()
        return results


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each case is measured")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    results = uvloop.run(run(options.seconds))
    if options.json:
        machine = {"python": platform.python_version(), "machine": platform.machine(), "conch": conch.__version__}
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
