"""What a request of a sequence costs, as perf_analyzer's sequences see it.

    PERF_ANALYZER=/path/to/perf_analyzer TRITON='tritonserver --model-repository={repository} --http-port={http} \\
        --grpc-port={grpc} --metrics-port={metrics}' python -m bench.sequences [--rounds 5] [--json FILE]

A Python model that takes the sequence's controls answers 8 sequences of 20 requests or so at a time, by both strategies
(direct, oldest), over HTTP, gRPC and a gRPC stream. The time is that between two answers: 1 / throughput. Rounds
alternate between conch and, where TRITON is given, Triton.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.alternating import alternate
from bench.processes import Server

MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            pb_utils.get_input_tensor_by_name(request, "START").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", values)]))
        return responses
"""

CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 8
input {{ name: "INPUT0" data_type: TYPE_FP32 dims: 16 }}
output {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: 16 }}
sequence_batching {{
  {strategy}
  max_sequence_idle_microseconds: 5000000
  control_input {{ name: "START" control {{ kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] }} }}
  control_input {{ name: "END" control {{ kind: CONTROL_SEQUENCE_END int32_false_true: [0, 1] }} }}
  control_input {{ name: "READY" control {{ kind: CONTROL_SEQUENCE_READY int32_false_true: [0, 1] }} }}
  control_input {{ name: "CORRID" control {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }} }}
}}
"""

STRATEGIES = {"direct": "direct { }", "oldest": "oldest { max_candidate_sequences: 8 }"}

PROTOCOLS: dict[str, list[str]] = {
    "HTTP": ["-i", "http"],
    "gRPC": ["-i", "grpc"],
    "gRPC stream": ["-i", "grpc", "--streaming"],
}

_SEQUENCES = 8


def write(repository: Path) -> None:
    """The model, once for each strategy."""
    for name, strategy in STRATEGIES.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / "model.py").write_text(MODEL)
        (repository / name / "config.pbtxt").write_text(CONFIG.format(name=name, strategy=strategy))


def measure(server: Server) -> dict[str, float]:
    """Microseconds a request, by case."""
    found = {}
    for name in STRATEGIES:
        for protocol, arguments in PROTOCOLS.items():
            found[f"{name}, {protocol}"] = 1e6 / _throughput(server, name, arguments)
    return found


def _throughput(server: Server, model: str, arguments: list[str]) -> float:
    """Requests per second."""
    port = server.http if "http" in arguments else server.grpc
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        report = Path(scratch, "report.csv")
        command = [os.environ.get("PERF_ANALYZER", "perf_analyzer"), "-m", model, "-u", f"127.0.0.1:{port}", *arguments]
        command += ["--concurrency-range", str(_SEQUENCES), "--measurement-interval", "500"]
        command += ["--stability-percentage", "999", "--max-trials", "3", "-f", str(report)]
        for _ in range(3):  # now and then perf_analyzer ends without a word
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            if report.exists():
                break
        else:
            raise RuntimeError(f"{' '.join(command)} made no report:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
        with report.open() as lines:
            return float(next(csv.DictReader(lines))["Inferences/Second"])


if __name__ == "__main__":
    sys.exit(alternate("us a request", write, measure))
