"""`python -m bench [NAME ...]`: run benchmarks against conch alone, or against conch and a peer in turn.

The load generator is NVIDIA's perf_analyzer and the peer is NVIDIA's Triton (any version that serves the repository):

    PERF_ANALYZER=/path/to/perf_analyzer \\
    TRITON='tritonserver --model-repository={repository} --http-port={http} --grpc-port={grpc} \\
        --metrics-port={metrics}' \\
    python -m bench identity-http identity-grpc --rounds 5 --json results.json

Runs interleave (conch, peer, conch, peer, ...) since machines drift; the medians and their ratio are quoted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from bench import cold_start, environment, serving


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    names = [*serving.WORKLOADS, "cold-start"]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run (default all): {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server and setting (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement (default 3)")
    parser.add_argument("--clip", type=Path, help="repository with the model `clip` for the workload clip-pipeline")
    parser.add_argument("--json", type=Path, help="also write the results with machine and versions to this file")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in names]
    if unknown:
        parser.error(f"unknown benchmark {unknown}; there are {', '.join(names)}")
    chosen = arguments.names or names
    load_generator = os.environ.get("PERF_ANALYZER", "perf_analyzer")
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for name in chosen:
            if name == "cold-start":
                results += cold_start.run(Path(scratch), arguments.rounds)
                continue
            workload = serving.WORKLOADS[name]
            if workload.repository == "clip" and arguments.clip is None:
                print(f"{name}: skipped, give --clip REPOSITORY", file=sys.stderr)
                continue
            bench = serving.Bench(load_generator, os.environ.get("TRITON"), Path(scratch), arguments.clip)
            found = bench.run(name, workload, arguments.rounds, arguments.seconds)
            print(serving.table(found), file=sys.stderr, flush=True)
            results += found
    print(serving.table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps({"environment": environment.describe(), "results": results}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
