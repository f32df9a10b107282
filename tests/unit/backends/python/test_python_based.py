"""Python-based backends: one file that runs the models which bring none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from conch.backend_api import InstanceSpec, ModelSource
from conch.backends.python.backend import PythonBackend
from conch.config import pbtxt
from conch.config.complete import normalize
from conch.config.schema import ModelConfig
from conch.core.metrics import CustomMetrics
from conch.errors import ConchError

from .conftest import EVALUATE, EVALUATE_CONFIG, Evaluator, run

COMPLETE = """
    @staticmethod
    def auto_complete_config(config):
        seen = config.as_dict()
        config.add_input({"name": "CODE", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_output({"name": "OUT", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_output({"name": "-".join([seen["backend"], seen["runtime"]]), "data_type": "TYPE_INT8", "dims": [1]})
        return config
"""


@pytest.fixture
def backend_file(tmp_path: Path) -> Path:
    directory = tmp_path / "backends" / "letters"
    directory.mkdir(parents=True)
    (directory / "beside.py").write_text("WHERE = 'beside the backend'")
    (directory / "model.py").write_text(
        EVALUATE.replace("class TritonPythonModel:", f"class TritonPythonModel:{COMPLETE}")
    )
    return directory / "model.py"


def a_model(tmp_path: Path, config: str = EVALUATE_CONFIG) -> tuple[ModelSource, ModelConfig]:
    directory = tmp_path / "models" / "m"
    (directory / "1").mkdir(parents=True)
    (directory / "1" / "model.py").write_text("raise RuntimeError('the model has code of its own, which is not run')")
    message = normalize(pbtxt.parse(f'backend: "letters"\n{config}'), directory)
    return ModelSource("m", 1, directory, {}), pbtxt.from_message(message)


def test_its_file_runs_a_model_and_finds_the_files_of_that(tmp_path: Path, backend_file: Path) -> None:
    source, config = a_model(tmp_path)

    async def body() -> None:
        backend = PythonBackend(backend_file)
        instance = await backend.load(InstanceSpec(source, config, "m_0_0", "CPU", 0, CustomMetrics()))
        try:
            evaluate = Evaluator(instance)  # type: ignore[arg-type]
            assert await evaluate("__import__('beside').WHERE") == "'beside the backend'"
            assert await evaluate("pb_utils.get_model_dir()") == repr(str(source.version_directory))
            assert await evaluate("args['model_repository']") == repr(str(source.directory))
            assert await evaluate("__file__, __name__") == repr((str(backend_file), "model"))
            assert await evaluate(f"[p for p in sys.path if p.startswith({str(tmp_path)!r})]") == repr(
                [str(backend_file.parent)]
            )
        finally:
            await instance.close()
            await backend.close()

    run(body())


def test_it_completes_configurations(tmp_path: Path, backend_file: Path) -> None:
    source, config = a_model(tmp_path, "")

    async def body() -> None:
        backend = PythonBackend(backend_file)
        completed = await backend.complete_config(source, config)
        assert [output.name for output in completed.output] == ["OUT", "letters-model.py"]
        assert completed.message.runtime == "model.py"
        instance = await backend.load(InstanceSpec(source, completed, "m_0_0", "CPU", 0, CustomMetrics()))
        try:
            given: Mapping[str, str] = json.loads(
                (await Evaluator(instance)("json.dumps(json.loads(args['model_config'])['runtime'])")).strip("'")
            )
            assert given == "model.py"
        finally:
            await instance.close()
            await backend.close()

    run(body())


def test_what_is_wrong_with_its_file_is_told(tmp_path: Path) -> None:
    source, config = a_model(tmp_path)
    directory = tmp_path / "letters"
    directory.mkdir()
    (directory / "model.py").write_text("class Other: pass")

    async def load(path: Path) -> str:
        backend = PythonBackend(path)
        with pytest.raises(ConchError) as caught:
            await backend.load(InstanceSpec(source, config, "m_0_0", "CPU", 0, CustomMetrics()))
        await backend.close()
        return caught.value.message

    text = asyncio.run(load(directory / "model.py"))
    assert text == "AttributeError: module 'letters.model' has no attribute 'TritonPythonModel'"
    assert "model file not found in" in asyncio.run(load(directory / "gone.py"))
