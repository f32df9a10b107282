"""The examples of examples/python_backend: their models in one repository, their clients as functions.

`python -m tests.examples` (`make oracle-compare`) runs them against conch and a Triton side by side.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

DIRECTORY = Path(__file__).resolve().parents[2] / "examples" / "python_backend"

#: What a server needs to serve all of them: loading by models, the rate limiter.
FLAGS = ("--model-control-mode=explicit", "--load-model=*", "--rate-limit=execution_count")


class Ports(Protocol):
    """A running server."""

    @property
    def http(self) -> int: ...
    @property
    def grpc(self) -> int: ...
    @property
    def metrics(self) -> int: ...


def names() -> list[str]:
    """Every example that all of FLAGS suffice for."""
    return sorted(path.parent.name for path in DIRECTORY.glob("*/client.py") if path.parent.name not in ALONE)


#: Examples that need a server of their own.
ALONE = ("python_based_backend",)


def gather(repository: Path, examples: Iterable[str], python: str = sys.executable) -> Path:
    """The models of these examples in one repository, ready to be served; returns it.

    Args:
        python: what environments of models are made of; it has numpy.
    """
    for name in examples:
        for model in (DIRECTORY / name / "models").iterdir():
            ignored = shutil.ignore_patterns("__pycache__", ".gitkeep", ".gitignore", "environment")
            shutil.copytree(model, repository / model.name, ignore=ignored)
    if (repository / "elsewhere").exists():
        load("environment", "make_environment").make(repository / "elsewhere", python)
    return repository


def load(example: str, script: str) -> ModuleType:
    """A script of an example, as a module."""
    specification = importlib.util.spec_from_file_location(
        f"example_{example}_{script}", DIRECTORY / example / f"{script}.py"
    )
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    path = list(sys.path)
    specification.loader.exec_module(module)
    sys.path[:] = path
    return module


def run(client: ModuleType, server: Ports) -> Any:
    """What a client found out, as it would print it."""
    urls = {name: f"127.0.0.1:{getattr(server, name)}" for name in ("http", "grpc", "metrics")}
    wanted = {name: urls[name] for name in inspect.signature(client.run).parameters}
    return json.loads(json.dumps(client.run(**wanted)))
