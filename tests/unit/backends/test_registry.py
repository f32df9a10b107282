"""Backends by name: installed ones, given ones, and the Python-based ones of a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from conch.backends.python.backend import PythonBackend
from conch.backends.registry import BackendRegistry
from conch.errors import InvalidArgumentError
from conch.testing import EchoBackend


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of the backends `letters` and `python`, and of one that has no model.py."""
    for name, file in (("letters", "model.py"), ("python", "model.py"), ("native", "libtriton_native.so")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("")
    return tmp_path


def test_a_backend_is_made_once() -> None:
    registry = BackendRegistry()
    assert isinstance(registry.find("python"), PythonBackend)
    assert registry.find("python") is registry.find("python")


def test_given_backends_go_first() -> None:
    mine = EchoBackend()
    assert BackendRegistry({"python": mine}).find("python") is mine


def test_a_python_based_backend_is_found_in_the_directory(directory: Path) -> None:
    registry = BackendRegistry(directory=directory)
    found = registry.find("letters")
    assert isinstance(found, PythonBackend)
    assert found.runtime == directory / "letters" / "model.py"
    assert registry.find("letters") is found
    python = registry.find("python")
    assert isinstance(python, PythonBackend)
    assert python.runtime is None  # installed ones go first


def test_an_unknown_backend_is_told_with_those_that_there_are(directory: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"unable to find backend 'native'.*'letters', .*'python'"):
        BackendRegistry(directory=directory).find("native")
    with pytest.raises(InvalidArgumentError, match="unable to find backend 'letters'"):
        BackendRegistry().find("letters")
    with pytest.raises(InvalidArgumentError, match="unable to find backend 'letters'"):
        BackendRegistry(directory=directory / "nowhere").find("letters")
