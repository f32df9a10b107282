"""The examples of examples/python_backend: one server for all, and what each client finds out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import examples
from tests.serving import ServerProcess, serving

Run = Callable[[str], Any]


@pytest.fixture(scope="module")
def example_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = examples.gather(tmp_path_factory.mktemp("examples") / "models", examples.names())
    with serving(repository, *examples.FLAGS, limit_s=100) as server:
        yield server


@pytest.fixture
def run(example_server: ServerProcess) -> Run:
    """Runs an example's client."""
    return lambda name: examples.run(examples.load(name, "client"), example_server)


def test_add_sub(run: Run) -> None:
    assert run("add_sub") == {
        "SUM": [1.5, 2.25, 7.0],
        "DIFFERENCE": [0.5, 1.75, -1.0],
        "error": "A and B differ in shape: (3,), (2,)",
    }


def test_auto_complete(run: Run) -> None:
    found = run("auto_complete")
    assert found["completed_batched"] == {
        "inputs": {"WORDS": ["TYPE_STRING", [-1], False]},
        "outputs": {"LENGTHS": ["TYPE_INT32", [-1]]},
        "max_batch_size": 4,
        "batches": True,
    }
    assert found["completed_plain"] == {
        "inputs": {"WORD": ["TYPE_STRING", [1], False], "TIMES": ["TYPE_INT32", [1], True]},
        "outputs": {"REPEATED": ["TYPE_STRING", [1]]},
        "max_batch_size": 0,
        "batches": False,
    }
    assert (found["lengths"], found["twice"], found["three times"]) == ([[2, 3], [9, 1]], "hoho", "hohoho")


def test_bls(run: Run) -> None:
    assert run("bls") == {
        "power": [32.0, 243.0],
        "table": [[1, 2, 3], [2, 4, 6], [3, 6, 9]],
        "refused": "EXPONENT must be positive",
        "passed on": "the product is too large",
    }


def test_bls_decoupled(run: Run) -> None:
    assert run("bls_decoupled") == {"total": [6, 0, 55], "total_async": [6, 0, 55]}


def test_cancellation(run: Run) -> None:
    assert run("cancellation") == {"noticed by the model": 1, "took half a minute": False, "error": ""}


def test_config_parameters(run: Run) -> None:
    assert run("config_parameters") == {"halved": [1.5, 2.0, 2.5], "tripled": [4.0, 7.0, 10.0]}


def test_custom_metrics(run: Run) -> None:
    found = run("custom_metrics")
    assert (found["words counted"], found["words of the last text"]) == (5, 2)
    assert found["described"] == [
        "# HELP example_last_text_words Words of the last text",
        "# HELP example_words_total Words read",
        "# TYPE example_last_text_words gauge",
        "# TYPE example_words_total counter",
    ]


def test_decoupled(run: Run) -> None:
    assert run("decoupled") == {
        "repeat": [[0, 5], [1, 6], [2, 7]],
        "square": {"2": [2, 2], "0": [], "3": [3, 3, 3], "-1": ["a negative number of responses"]},
    }


def test_environment(run: Run) -> None:
    assert run("environment") == {"SPELLED": "two zero five one", "FOUND_IN": "environment"}


def test_instance_kind(run: Run) -> None:
    found = run("instance_kind")
    assert found["placed_by_cpu"] == {"kind": "CPU", "device": "cpu", "roots": [2.0, 3.0]}
    device = "cuda" if Path("/dev/nvidia0").exists() else "cpu"
    assert found["placed_by_model"] == {"kind": "MODEL", "device": device, "roots": [2.0, 3.0]}


def test_iterative(run: Run) -> None:
    assert run("iterative") == {"1": 0, "6": 8, "27": 111, "7": 16}


def test_model_loading(run: Run) -> None:
    assert run("model_loading") == {
        "times 2": [2, 4, 6],
        "times 10": [10, 20, 30],
        "ready before, between, after": [False, True, False],
    }


def test_preprocessing(run: Run) -> None:
    found = run("preprocessing")
    assert [name for name, _ in found["patterns"]] == ["plain", "horizontal stripes", "vertical stripes", "chequered"]
    assert all(probability > 0.9 for _, probability in found["patterns"])
    assert found["error"] == "FILE is no image that can be read"


def test_rate_limiter(run: Run) -> None:
    assert run("rate_limiter") == {"requests": 6, "overlapping": 0}


def test_response_parameters(run: Run) -> None:
    assert run("response_parameters") == {
        "http": {"letters": 5, "shouted": False, "greeting": "hello"},
        "grpc": {"greeting": "none", "letters": 5, "shouted": True},
    }


def test_sequence(run: Run) -> None:
    found = run("sequence")
    assert found["sums"] == {"101": [1, 3, 6], "102": [10, 30, 60]}
    assert "sequence 101" in found["refused"] and "START" in found["refused"]


@pytest.fixture
def letters_server(tmp_path: Path) -> Iterator[ServerProcess]:
    directory = examples.DIRECTORY / "python_based_backend"
    repository = Path(shutil.copytree(directory / "models", tmp_path / "models"))
    with serving(repository, f"--backend-directory={directory / 'backends'}") as server:
        yield server


def test_python_based_backend(letters_server: ServerProcess) -> None:
    assert examples.run(examples.load("python_based_backend", "client"), letters_server) == {
        "invitation": {
            "backend": "letters",
            "runtime": "model.py",
            "letters": ["Dear Ada, come and hear the conch.", "Dear Alan, come and hear the conch."],
        },
        "thanks": {
            "backend": "letters",
            "runtime": "model.py",
            "letters": ["Thank you, Ada!", "Thank you, Alan!"],
        },
    }


def test_every_example_has_a_test_a_client_and_a_page() -> None:
    directories = {path.name for path in examples.DIRECTORY.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert directories == {*examples.names(), *examples.ALONE}
    assert {f"test_{name}" for name in directories} <= set(globals())
    page = (examples.DIRECTORY / "README.md").read_text()
    for name in directories:
        assert f"]({name}/README.md)" in page
        assert (examples.DIRECTORY / name / "README.md").read_text().startswith(f"# {name}\n")
