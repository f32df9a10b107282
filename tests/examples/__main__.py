"""Runs every example's client against conch and a Triton, and compares what they find out.

    TRITON='tritonserver --model-repository={repository} --http-port={http} --grpc-port={grpc} \\
        --metrics-port={metrics}' python -m tests.examples [EXAMPLE ...]

The Python of that Triton's models needs numpy and Pillow. An example makes an environment of it: TRITON_PYTHON names
it, or else the Triton is asked. Exit code 1 where an answer differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.processes import CONCH, Server, running

from tests import examples

#: Loading all examples starts some thirty processes; on a busy machine a Triton takes minutes for it.
_START_LIMIT_S = 600.0


class Failure(str):
    """What a client raised, in place of what it found out."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare conch with a Triton on the examples.")
    parser.add_argument("examples", nargs="*", metavar="EXAMPLE", help="those to run; all of them if none is named")
    chosen = parser.parse_args().examples or examples.names()
    if "TRITON" not in os.environ:
        parser.error("TRITON must hold the command line of a Triton, with {repository}, {http}, {grpc} and {metrics}")
    unknown = set(chosen) - set(examples.names())
    if unknown:
        parser.error(f"no example is named {', '.join(sorted(unknown))}; there are {', '.join(examples.names())}")
    with tempfile.TemporaryDirectory(prefix="examples-") as scratch:
        python = os.environ.get("TRITON_PYTHON") or _python_of_models(os.environ["TRITON"], Path(scratch))
        repository = examples.gather(Path(scratch) / "models", chosen, python)
        found = {
            name: _answers(name, command, repository, chosen)
            for name, command in (("conch", CONCH), ("triton", os.environ["TRITON"]))
        }
    outcomes = [compare(name, found["conch"][name], found["triton"][name]) for name in chosen]
    width = max(map(len, chosen))
    for name, outcome in zip(chosen, outcomes, strict=True):
        print(f"{name:{width}}  {outcome}")
    return int(any(outcome.startswith(("DIFFERENT", "FAILED")) for outcome in outcomes))


def compare(name: str, conch: Any, triton: Any) -> str:
    """The outcome on one line, or the two answers where they differ."""
    if triton is None:
        return f"not compared: it needs Triton {'.'.join(map(str, needed_version(name)))}"
    failed = any(isinstance(answer, Failure) for answer in (conch, triton))
    if conch == triton and not failed:
        return "equal"
    return f"{'FAILED' if failed else 'DIFFERENT'}\n  conch:  {json.dumps(conch)}\n  triton: {json.dumps(triton)}"


def needed_version(name: str) -> tuple[int, ...]:
    """The version of Triton that an example needs; () for any."""
    version: tuple[int, ...] = getattr(examples.load(name, "client"), "NEEDS_TRITON", ())
    return version


def _python_of_models(command: str, scratch: Path) -> str:
    """The Python that a Triton's models run in, with the numpy that its Python backend can read."""
    repository = scratch / "asked"
    (repository / "python" / "1").mkdir(parents=True)
    (repository / "python" / "1" / "model.py").write_text(_TELLS_ITS_PYTHON)
    with running("triton-asked", command, repository, _START_LIMIT_S) as server:
        question = json.dumps({"inputs": [{"name": "ASKED", "datatype": "BOOL", "shape": [1], "data": [True]}]})
        url = f"http://127.0.0.1:{server.http}/v2/models/python/infer"
        with urllib.request.urlopen(url, data=question.encode(), timeout=30) as answer:
            told: str = json.load(answer)["outputs"][0]["data"][0]
    return told


_TELLS_ITS_PYTHON = """
import sys
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "ASKED", "data_type": "TYPE_BOOL", "dims": [1]})
        config.add_output({"name": "TOLD", "data_type": "TYPE_STRING", "dims": [1]})
        return config

    def execute(self, requests):
        told = np.array([sys.executable], dtype=object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("TOLD", told)]) for _ in requests]
"""


def _answers(server_name: str, command: str, repository: Path, chosen: list[str]) -> dict[str, Any]:
    """What each client finds out; None where the server is a Triton too old for it."""
    flags = shlex.join(examples.FLAGS)
    with running(server_name, f"{command} {flags}", repository, _START_LIMIT_S) as server:
        version = _triton_version(server)
        _wait_for_metrics(server)
        found: dict[str, Any] = {}
        for name in chosen:
            if version and version < needed_version(name):
                found[name] = None
                continue
            try:
                found[name] = examples.run(examples.load(name, "client"), server)
            except Exception as error:  # the table tells it
                found[name] = Failure(f"{type(error).__name__}: {error}")
        return found


def _wait_for_metrics(server: Server) -> None:
    """A Triton opens this port last."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", server.metrics), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


def _triton_version(server: Server) -> tuple[int, ...]:
    """Of a Triton; () for another server."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.http}/v2", timeout=10) as answer:
        described = json.load(answer)
    if described["name"] != "triton":
        return ()
    return tuple(map(int, described["version"].split(".")[:2]))


if __name__ == "__main__":
    sys.exit(main())
