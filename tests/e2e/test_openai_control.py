"""Models are loaded and unloaded through the API of OpenAI, by those who may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serving import free_ports, serving

MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        text = np.array(["The sea."], dtype=object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("generated_text", text)]) for _ in requests]
"""
CONFIG = """
backend: "python"
input { name: "text" data_type: TYPE_STRING dims: [1] }
output { name: "generated_text" data_type: TYPE_STRING dims: [1] }
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repository: Path = tmp_path_factory.mktemp("control") / "models"
    for name in ("first", "second"):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(CONFIG)
        (repository / name / "1" / "model.py").write_text(MODEL)
    (port,) = free_ports(1)
    flags = ["--model-control-mode=explicit", "--load-model=first", f"--openai-port={port}"]
    with serving(repository, *flags, "--openai-restricted-api=model-repository:admin-key=sesame"):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        yield client


def control(client: Any, call: str) -> Any:
    return client.post(f"/models/{call}", cast_to=object, options={"headers": {"admin-key": "sesame"}})


def test_models_are_loaded_and_unloaded(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["first"]
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="second", prompt="Hello")
    assert control(client, "second/load")["id"] == "second"
    assert client.completions.create(model="second", prompt="Hello").choices[0].text == "The sea."
    assert control(client, "second/unload") == {"id": "second", "unloaded": True}
    with pytest.raises(openai.NotFoundError, match="'second' does not exist or is not ready"):
        client.completions.create(model="second", prompt="Hello")
    with pytest.raises(openai.InternalServerError, match="failed to load 'nobody'"):
        control(client, "nobody/load")
    assert client.completions.create(model="first", prompt="Hello").choices[0].text == "The sea."


def test_who_may_not_is_refused_and_may_still_ask_models(client: Any) -> None:
    for call in ("second/load", "first/unload"):
        with pytest.raises(openai.PermissionDeniedError):
            client.post(f"/models/{call}", cast_to=object)
    assert [model.id for model in client.models.list()] == ["first"]
    assert client.completions.create(model="first", prompt="Hello").choices[0].text == "The sea."
