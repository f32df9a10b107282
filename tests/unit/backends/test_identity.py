"""The identity backend hands on what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.backend_api import InstanceSpec, ModelSource, Output
from conch.backends.identity import IdentityBackend, IdentityInstance
from conch.backends.registry import BackendRegistry
from conch.config import pbtxt
from conch.config.complete import normalize
from conch.core.metrics import CustomMetrics
from conch.errors import InvalidArgumentError, UnavailableError
from conch.inference import InferRequest, RequestedOutput
from conch.tensor import DataType, Tensor

TWO = """
input { name: "INPUT0" data_type: TYPE_FP32 dims: -1 }
input { name: "INPUT1" data_type: TYPE_STRING dims: 1 optional: true }
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: -1 }, { name: "OUTPUT1" data_type: TYPE_STRING dims: 1 } ]
"""


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 30))


async def load(config: str = TWO, number: int = 0) -> IdentityInstance:
    message = normalize(pbtxt.parse(f'name: "m" backend: "identity"\n{config}'), Path("m"))
    source = ModelSource("m", 1, Path("m"), {})
    spec = InstanceSpec(source, pbtxt.from_message(message), f"m_0_{number}", "CPU", 0, CustomMetrics(), None)
    return await IdentityBackend().load(spec)


def request(*names: str, outputs: tuple[str, ...] = ()) -> InferRequest:
    tensors = {
        "INPUT0": Tensor.from_numpy("INPUT0", np.arange(3, dtype=np.float32), DataType.FP32),
        "INPUT1": Tensor.from_numpy("INPUT1", np.array([b"text"], object), DataType.BYTES),
    }
    wanted = tuple(RequestedOutput(name) for name in outputs)
    return InferRequest("m", "", tuple(tensors[name] for name in names), outputs=wanted)


def names_and_data(output: object) -> dict[str, bytes]:
    assert isinstance(output, Output)
    return {tensor.name: bytes(tensor.data) for tensor in output.tensors}


def test_inputs_come_back_as_the_outputs_of_their_number() -> None:
    async def body() -> None:
        instance = await load()
        both, one, chosen = (
            await instance.execute(
                [
                    request("INPUT0", "INPUT1"),
                    request("INPUT0"),
                    request("INPUT0", "INPUT1", outputs=("OUTPUT1",)),
                ]
            )
        ).outputs
        numbers, text = np.arange(3, dtype=np.float32).tobytes(), b"\4\0\0\0text"
        assert names_and_data(both) == {"OUTPUT0": numbers, "OUTPUT1": text}
        assert names_and_data(one) == {"OUTPUT0": numbers}
        assert names_and_data(chosen) == {"OUTPUT1": text}

    run(body())


@pytest.mark.parametrize(("number", "multiplier", "at_least_ms"), [(0, "3", 20), (1, "0", 20), (2, "2", 80)])
def test_an_execution_takes_the_time_that_the_instance_is_given(number: int, multiplier: str, at_least_ms: int) -> None:
    async def body() -> None:
        parameters = f"""
            parameters {{ key: "execute_delay_ms" value {{ string_value: "20" }} }}
            parameters {{ key: "instance_wise_delay_multiplier" value {{ string_value: "{multiplier}" }} }}
        """
        instance = await load(TWO + parameters, number)
        result = await instance.execute([request("INPUT0")])
        assert result.compute_infer_ns >= at_least_ms * 1_000_000 - 2_000_000  # the loop's clock is coarser

    run(body())


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (TWO.replace("OUTPUT1", "OTHER"), "outputs of the identity backend are OUTPUT0, OUTPUT1, ..., not 'OTHER'"),
        (TWO.replace("OUTPUT1", "OUTPUT2"), "output 'OUTPUT2' needs an input 'INPUT2' of its datatype TYPE_STRING"),
        (
            TWO + 'parameters { key: "execute_delay_ms" value { string_value: "soon" } }',
            "parameter 'execute_delay_ms' must be a whole number of 0 or more, got 'soon'",
        ),
    ],
)
def test_what_cannot_be_handed_on_does_not_load(config: str, text: str) -> None:
    async def body() -> None:
        with pytest.raises(InvalidArgumentError, match=text.replace("(", r"\(")):
            await load(config)

    run(body())


def test_the_execution_in_hand_ends_before_the_instance_closes() -> None:
    async def body() -> None:
        instance = await load(TWO + 'parameters { key: "execute_delay_ms" value { string_value: "20" } }')
        running = asyncio.ensure_future(instance.execute([request("INPUT0")]))
        await instance.close()
        assert running.done()
        with pytest.raises(UnavailableError):
            await instance.execute([request("INPUT0")])

    run(body())


def test_configurations_find_it_by_its_name() -> None:
    assert isinstance(BackendRegistry().find("identity"), IdentityBackend)
