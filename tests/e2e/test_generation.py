"""Models that generate behind a real server: what each request asks for, what is refused, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from tests import checkpoints
from tests.serving import ServerProcess, serving

pytest.importorskip("transformers", reason="deploying needs transformers: pip install 'conch[hf]'")

from conch.deploy.run import Order, write
from conch.inprocess.loaded import loaded_models

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "writer"
GREEDY = {"max_new_tokens": 6, "do_sample": False}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("generation")
    checkpoint = checkpoints.build("text-generation", directory / "checkpoints")
    order = Order(str(checkpoint), directory / "models", task="text-generation", name=NAME, approach="ensemble")
    written = write(order, lambda text: None, lambda what, done: None)
    assert (written.approach, written.reason) == ("ensemble", "")
    return order.repository


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with serving(repository, limit_s=240) as running:
        yield running


def over_http(server: ServerProcess, parameters: dict[str, Any]) -> dict[str, Any]:
    """The answer, or the error with its status."""
    inputs = [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["The wind"]}]
    body = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    request = urllib.request.Request(f"http://{server.http_url}/v2/models/{NAME}/infer", body)
    try:
        with urllib.request.urlopen(request) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.load(error)}


def over_grpc(server: ServerProcess, parameters: dict[str, Any]) -> str:
    text = grpcclient.InferInput("text", [1, 1], "BYTES")
    text.set_data_from_numpy(np.array([[b"The wind"]], object))
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        result = client.infer(NAME, [text], parameters=parameters)
    return str(result.as_numpy("generated_text")[0, 0].decode())


def test_both_protocols_generate_what_a_request_asks_for(server: ServerProcess) -> None:
    answer = over_http(server, {**GREEDY, "return_full_text": False})
    (text,) = (each["data"][0] for each in answer["outputs"] if each["name"] == "generated_text")
    assert text
    assert over_grpc(server, {**GREEDY, "return_full_text": False}) == text
    assert over_grpc(server, GREEDY) == f"The wind{text}"
    drawn = {"max_new_tokens": 6, "do_sample": True, "temperature": "5.0", "seed": 3}
    assert over_grpc(server, drawn) == over_grpc(server, drawn)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"max_tokens": 3}, "unknown request parameters ['max_tokens']; text-generation takes: do_sample"),
        ({"temperature": "warm"}, "request parameter 'temperature' should be of kind float, got 'warm'"),
    ],
)
def test_wrong_parameters_are_refused_over_both_protocols_and_the_server_goes_on(
    server: ServerProcess, parameters: dict[str, Any], text: str
) -> None:
    refused = over_http(server, parameters)
    assert refused["status"] == 400
    assert text in refused["error"]
    with pytest.raises(InferenceServerException, match=r"StatusCode\.INVALID_ARGUMENT") as caught:
        over_grpc(server, parameters)
    assert text in str(caught.value)
    assert over_grpc(server, GREEDY).startswith("The wind")


def test_generation_ends_when_its_client_is_gone(repository: Path) -> None:
    """Nobody waits for the thousands of tokens that nobody reads."""
    inputs = {"text": np.array([[b"The wind"]], object)}

    async def leave_and_ask() -> None:
        async with loaded_models(repository, NAME) as infer:
            await infer(NAME, inputs, dict(GREEDY))
            endless = {"max_new_tokens": 100_000, "min_new_tokens": 100_000, "do_sample": False}
            gone = asyncio.ensure_future(infer(NAME, inputs, endless))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(gone, 2)
            answer = await asyncio.wait_for(infer(NAME, inputs, dict(GREEDY)), 60)
            assert bytes(answer["generated_text"][0, 0]).startswith(b"The wind")

    asyncio.run(leave_and_ask())
