"""Habits of public models: ways to import, to make tensors, to run beside `execute`, that Triton's models rely on."""

from __future__ import annotations

import os

import numpy as np
import pytest

from .conftest import IDENTITY, Workshop, arrays_of, fp32, request, run

#: Parts of a model that answers OUTPUT0 = INPUT0 * factor(); each one has `factor` another way.
SCALE = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()) for request in requests]

    def answer(self, values):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", values * np.float32(factor()))])
"""

FACTOR = "def factor():\n    return 3\n"


async def answer_of(workshop: Workshop, source: str) -> list[float]:
    async with workshop.instance(source) as instance:
        return arrays_of(await instance.execute([request(fp32(1, 2))]))[0].tolist()[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("statement", "files"),
    [
        ("from .factors import factor", {"factors.py": FACTOR}),
        ("from . import factors\nfactor = factors.factor", {"factors.py": FACTOR}),
        ("from .deep.factors import factor", {"deep/__init__.py": "", "deep/factors.py": FACTOR}),
        ("from . import factor", {"__init__.py": FACTOR}),
        ("from .. import *\nfrom .factors import factor", {"factors.py": FACTOR}),
        ("from factors import factor", {"factors.py": FACTOR}),
        ("from factors import factor", {"../factors.py": FACTOR}),
        ("import importlib\nfactor = importlib.import_module('.factors', __package__).factor", {"factors.py": FACTOR}),
    ],
)
def test_modules_beside_the_model_are_found(workshop: Workshop, statement: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = workshop.root / "m" / "1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if ".." in statement:  # there is no package above that of the version
        assert "attempted relative import beyond top-level package" in workshop.load_error(statement + SCALE)
        return

    async def body() -> None:
        assert await answer_of(workshop, statement + SCALE) == [3, 6]

    run(body())


@pytest.mark.parametrize("statement", ["from factors import factor", "from .factors import factor"])
def test_a_model_that_changes_within_a_second_is_loaded_as_it_is(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    directory = workshop.root / "m" / "1"
    directory.mkdir(parents=True)

    async def body() -> None:
        for factor in (3, 4):
            (directory / "factors.py").write_text(FACTOR.replace("3", str(factor)))
            os.utime(directory / "factors.py", (1_700_000_000, 1_700_000_000))
            assert await answer_of(workshop, statement + SCALE) == [factor, 2 * factor]

    run(body())
    assert sorted(path.name for path in directory.iterdir()) == ["factors.py", "model.py"], "bytecode was left there"


def test_a_broken_module_beside_the_model_is_told(workshop: Workshop) -> None:
    (workshop.root / "m" / "1").mkdir(parents=True)
    (workshop.root / "m" / "1" / "factors.py").write_text("raise ValueError('no factors')")
    assert workshop.load_error("from .factors import factor" + SCALE) == "ValueError: no factors"
    assert workshop.load_error("from .nothing import factor" + SCALE) == (
        "ModuleNotFoundError: No module named '1.nothing'"
    )


@pytest.mark.parametrize(
    "source",
    [
        # classes from the compiled module, annotations, a constructor, an argument more
        """
from __future__ import annotations
import dataclasses
from typing import Any
import numpy as np
from c_python_backend_utils import InferenceRequest, InferenceResponse, Tensor
from triton_python_backend_utils import get_input_tensor_by_name

@dataclasses.dataclass
class Settings:
    factor: float = 1.0

class TritonPythonModel(object):
    def __init__(self):
        self.settings = None

    def initialize(self, args: dict[str, Any], factor: int = 3) -> None:
        self.settings = Settings(factor)

    def execute(self, requests: list[InferenceRequest]) -> list[InferenceResponse]:
        return [InferenceResponse(output_tensors=[self.scaled(request)]) for request in requests]

    def scaled(self, request: InferenceRequest) -> Tensor:
        values = get_input_tensor_by_name(request, "INPUT0").as_numpy()
        return Tensor("OUTPUT0", (values * self.settings.factor).astype(np.float32))
""",
        # coroutines on a loop and in threads of the model's own
        """
import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.pool = ThreadPoolExecutor(2)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    async def scaled(self, values):
        await asyncio.sleep(0)
        return values * np.float32(3)

    def execute(self, requests):
        arrays = [request.inputs()[0].as_numpy() for request in requests]
        futures = [asyncio.run_coroutine_threadsafe(self.scaled(each), self.loop) for each in arrays]
        results = list(self.pool.map(lambda future: future.result(), futures))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", each)]) for each in results]

    def finalize(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.pool.shutdown()
""",
        # processes of the model's own
        """
import multiprocessing
import numpy as np
import triton_python_backend_utils as pb_utils

def scaled(values):
    return values * np.float32(3)

class TritonPythonModel:
    def initialize(self, args):
        self.pool = multiprocessing.get_context("fork").Pool(1)

    def execute(self, requests):
        results = self.pool.map(scaled, [request.inputs()[0].as_numpy() for request in requests])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", each)]) for each in results]

    def finalize(self):
        self.pool.close()
        self.pool.join()
""",
        # read-only memory, and memory in another order
        """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request.inputs()[0].as_numpy()) for request in requests]

    def answer(self, values):
        tripled = np.frombuffer((values * np.float32(3)).tobytes(), np.float32).reshape(values.shape)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.asfortranarray(tripled))])
""",
        # the logger under the names of `logging`, tensors asked whether they are there, the configuration's insides
        """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    @classmethod
    def auto_complete_config(cls, config):
        config._model_config["parameters"] = {"factor": {"string_value": "3"}}
        return config

    def initialize(self, args):
        self.logger = pb_utils.Logger
        self.logger.info = self.logger.log_info
        self.logger.warning = self.logger.log_warn
        self.logger.info("initialize")

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        factor = pb_utils.get_input_tensor_by_name(request, "FACTOR")
        factor = factor.as_numpy() if factor else np.float32(3)
        values = pb_utils.get_input_tensor_by_name(request, "INPUT0")
        if not values:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError("no values"))
        self.logger.warning(f"{values.name()} {values.shape()}")
        error = pb_utils.Tensor("TEXT", np.asarray([self.answer], dtype=np.object_))  # never sent: any object will do
        assert pb_utils.InferenceResponse([error], pb_utils.TritonError("x")).has_error()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", values.as_numpy() * factor)])
""",
    ],
    ids=["compiled_module", "event_loop", "processes", "read_only", "logger"],
)
def test_ways_to_write_a_model(workshop: Workshop, source: str) -> None:
    async def body() -> None:
        assert await answer_of(workshop, source) == [3, 6]

    run(body())


def test_arrays_without_dimensions_are_tensors(workshop: Workshop) -> None:
    source = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        outputs = [
            pb_utils.Tensor("TEXT", np.asarray("a text", dtype=np.object_)),
            pb_utils.Tensor("NUMBER", np.array(5, dtype=np.float32)),
        ]
        return [pb_utils.InferenceResponse(outputs) for _ in requests]
"""

    async def body() -> None:
        async with workshop.instance(source) as instance:
            text, number = arrays_of(await instance.execute([request(fp32(1))]))
            assert (text.shape, text.item(), number.shape, number.item()) == ((), b"a text", (), 5.0)

    run(body())


def test_a_model_is_module_model_of_its_version(workshop: Workshop) -> None:
    source = (
        IDENTITY
        + """
import sys
assert __name__ == "1.model" and __package__ == "1", (__name__, __package__)

import unittest

class Test(unittest.TestCase):
    def test_names(self):
        self.assertIs(sys.modules["model"], sys.modules["1.model"])

class TritonPythonModel(TritonPythonModel):
    def execute(self, requests):
        ran = unittest.main("model", argv=["test"], exit=False, verbosity=0)
        assert ran.result.testsRun == 1 and ran.result.wasSuccessful()
        return super().execute(requests)
"""
    )

    async def body() -> None:
        async with workshop.instance(source) as instance:
            result = await instance.execute([request(fp32(1, 2))])
            np.testing.assert_array_equal(arrays_of(result)[0], [[1, 2]])

    run(body())
