"""EXECUTION_ENV_PATH: models under an interpreter of their own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import numpy as np
import pytest

from conch.errors import InvalidArgumentError
from conch.tensor import DataType, Tensor

from .conftest import EVALUATE, EVALUATE_CONFIG, IDENTITY, Evaluator, Workshop, arrays_of, request, run


def parameter(path: str) -> str:
    return f'{EVALUATE_CONFIG} parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "{path}" }} }}'


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment with numpy and a module nobody else has; conch is not in it.

    Processes of models do without PYTHONPATH, which may name conch.
    """
    monkeypatch.delenv("PYTHONPATH", raising=False)
    root = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    packages = next((root / "lib").glob("python*")) / "site-packages"
    installed = Path(sysconfig.get_path("purelib"))
    for name in ("numpy", "numpy.libs"):
        if (installed / name).exists():
            (packages / name).symlink_to(installed / name)
    (packages / "only_in_env.py").write_text("ANSWER = 42\n")
    return root


def test_a_model_runs_in_a_directory_environment_without_conch(workshop: Workshop, environment: Path) -> None:
    async def body() -> None:
        async with workshop.instance(EVALUATE, parameter(str(environment))) as instance:
            evaluate = Evaluator(instance)
            assert await evaluate("sys.prefix") == repr(str(environment))
            assert await evaluate("os.environ['VIRTUAL_ENV']") == repr(str(environment))
            assert await evaluate("__import__('shutil').which('python')") == repr(str(environment / "bin" / "python"))
            assert await evaluate("__import__('only_in_env').ANSWER") == "42"
            assert await evaluate("__import__('conch')") == "ModuleNotFoundError: No module named 'conch'"

    run(body())


def test_large_tensors_reach_a_model_in_its_own_environment(workshop: Workshop, environment: Path) -> None:
    config = (
        parameter(str(environment))
        .replace('"CODE"', '"INPUT0"')
        .replace('"OUT"', '"OUTPUT0"')
        .replace("STRING", "FP32")
    )

    async def body() -> None:
        async with workshop.instance(IDENTITY, config) as instance:
            sent = np.arange(100_000, dtype=np.float32)
            result = await instance.execute([request(Tensor.from_numpy("INPUT0", sent, DataType.FP32))])
            assert np.array_equal(arrays_of(result)[0], sent)

    run(body())


def test_an_archive_beside_the_model_is_unpacked_once(
    workshop: Workshop, environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = workshop.root / "m"
    directory.mkdir()
    with tarfile.open(directory / "env.tar.gz", "w:gz") as archive:
        archive.add(environment, arcname=".")

    async def body() -> None:
        prefixes = []
        for _ in range(2):
            async with workshop.instance(EVALUATE, parameter("$$TRITON_MODEL_DIRECTORY/env.tar.gz")) as instance:
                prefixes.append(await Evaluator(instance)("sys.prefix"))
        unpacked = tmp_path / "cache" / "conch" / "environments"
        assert [repr(str(entry)) for entry in unpacked.iterdir()] == prefixes[:1] == prefixes[1:]

    run(body())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere", "must be a Python environment .a directory with bin/python. .* there is no '/nowhere/bin/python'"),
        ("/nowhere/env.tar.gz", "cannot be read: .*No such file"),
        ("$$TRITON_MODEL_DIRECTORY/broken.tar.gz", "broken.tar.gz' cannot be unpacked"),
    ],
)
def test_a_path_to_no_environment_is_refused(
    workshop: Workshop, path: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (workshop.root / "m").mkdir()
    (workshop.root / "m" / "broken.tar.gz").write_bytes(b"no archive")

    async def body() -> None:
        with pytest.raises(InvalidArgumentError, match=f"EXECUTION_ENV_PATH of model 'm'.*{message}"):
            async with workshop.instance(EVALUATE, parameter(path)):
                pass

    run(body())


def test_an_environment_without_numpy_says_what_to_install(workshop: Workshop, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    text = workshop.load_error(EVALUATE, parameter(str(tmp_path / "bare")))
    assert text.startswith(f"the interpreter {tmp_path}/bare/bin/python cannot import numpy")
    assert text.endswith("install it there")


def test_an_interpreter_that_cannot_run_is_reported(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "odd" / "bin").mkdir(parents=True)
    (tmp_path / "odd" / "bin" / "python").write_text("no program")
    text = workshop.load_error(EVALUATE, parameter(str(tmp_path / "odd")))
    assert text.startswith("the process of model 'm' cannot be started: ")
