from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conch.cli.main import main
from tests.unit.cli.stub_server import StubServer

CLIP: dict[str, tuple[int, Any]] = {
    "/v2/models/clip": (
        200,
        {
            "name": "clip",
            "versions": ["1"],
            "platform": "python",
            "inputs": [
                {"name": "image", "datatype": "BYTES", "shape": [-1, 1]},
                {"name": "text", "datatype": "BYTES", "shape": [-1, -1]},
                {"name": "scale", "datatype": "FP32", "shape": [-1, 1]},
            ],
            "outputs": [
                {"name": "logits_per_image", "datatype": "FP32", "shape": [-1, -1]},
                {"name": "probs", "datatype": "FP32", "shape": [-1, -1]},
            ],
        },
    ),
    "/v2/models/clip/config": (
        200,
        {"name": "clip", "max_batch_size": 8, "input": [{"name": "image"}, {"name": "scale", "optional": True}]},
    ),
    "/v2/models/clip/infer": (
        200,
        {
            "model_name": "clip",
            "model_version": "1",
            "outputs": [
                {"name": "logits_per_image", "datatype": "FP32", "shape": [1, 2], "data": [18.5, 25.0]},
                {"name": "probs", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]},
            ],
        },
    ),
    "/v2/repository/index": (200, [{"name": "clip", "version": "1", "state": "READY"}]),
}


@pytest.fixture
def stub_server() -> Iterator[StubServer]:
    with StubServer(CLIP).running() as server:
        yield server


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8jpeg")
    return path


def test_labels_are_printed_with_their_scores_best_first(
    stub_server: StubServer, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ["-i", f"image={photo}", "-i", "text=a red circle", "-i", "text=a blue square"]
    assert main(["infer", "clip", *inputs, "--url", stub_server.url]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "text           logits_per_image   probs",
        "a blue square           25.0000  0.7500",
        "a red circle            18.5000  0.2500",
    ]


def test_request_carries_file_bytes_texts_and_parameters(stub_server: StubServer, photo: Path) -> None:
    inputs = ["-i", f"image={photo}", "-i", "text=a", "-i", "text=b", "-i", "scale=2"]
    parameters = ["-p", "hypothesis_template=a {}", "-p", "top_k=3", "-p", "flag=true"]
    assert main(["infer", "clip", *inputs, *parameters, "-o", "probs", "--url", stub_server.url]) == 0
    path, head, data = stub_server.requests[-1]
    assert path == "/v2/models/clip/infer"
    assert [(sent["name"], sent["datatype"], sent["shape"]) for sent in head["inputs"]] == [
        ("image", "BYTES", [1, 1]),
        ("text", "BYTES", [1, 2]),
        ("scale", "FP32", [1, 1]),
    ]
    assert data == b"\6\0\0\0\xff\xd8jpeg" + b"\1\0\0\0a\1\0\0\0b" + b"\0\0\0\x40"
    wanted = {"hypothesis_template": "a {}", "top_k": 3, "flag": True}
    assert {name: head["parameters"][name] for name in wanted} == wanted
    assert [output["name"] for output in head["outputs"]] == ["probs"]


def test_json_holds_shapes_and_values(stub_server: StubServer, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "clip", "-i", f"image={photo}", "-i", "text=a", "--json", "--url", stub_server.url]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["outputs"]["probs"] == {"shape": [1, 2], "data": [[0.25, 0.75]]}
    assert (answer["model_name"], answer["model_version"]) == ("clip", "1")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-i", "text=a"], "model 'clip' needs more inputs; add: -i image=<BYTES [1]>"),
        (["-i", "txt=a"], "model 'clip' has no input 'txt'; did you mean 'text'?"),
        (["-i", "zzz=a"], "model 'clip' has no input 'zzz'; its inputs are image, text, scale"),
        (["-i", "image=none.jpg", "-i", "text=a"], "input 'image' expects a file, and 'none.jpg' is none"),
        (["-i", "image=@none.jpg", "-i", "text=a"], "cannot read 'none.jpg': No such file or directory"),
        (["-i", "image"], "-i expects NAME=VALUE, got 'image'"),
        (["-p", "=x"], "-p expects NAME=VALUE, got '=x'"),
    ],
)
def test_arguments_that_do_not_fit_the_model_exit_with_2(
    stub_server: StubServer, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", "clip", *arguments, "--url", stub_server.url]) == 2
    assert expected in capsys.readouterr().err


def test_unknown_output_is_named(stub_server: StubServer, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = ["-i", f"image={photo}", "-i", "text=a"]
    assert main(["infer", "clip", *inputs, "-o", "prob", "--url", stub_server.url]) == 2
    assert "model 'clip' has no output 'prob'; did you mean 'probs'?" in capsys.readouterr().err


def test_unknown_model_lists_those_served(stub_server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "nope", "-i", "text=a", "--url", stub_server.url]) == 1
    error = capsys.readouterr().err
    assert "Request for unknown model" in error
    assert "the server has clip: conch infer clip ..." in error


def test_error_of_the_server_is_shown(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = CLIP | {"/v2/models/clip/infer": (503, {"error": "Exceeds maximum queue size"})}
    with StubServer(answers).running() as server:
        assert main(["infer", "clip", "-i", f"image={photo}", "-i", "text=a", "--url", server.url]) == 1
    assert "conch infer: error: Exceeds maximum queue size" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_missing_server_names_the_command_that_starts_one(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"127.0.0.1:{port}"
    assert main(["infer", "clip", "-i", "text=a", "--protocol", protocol, "--url", url, "--timeout", "20"]) == 1
    error = capsys.readouterr().err
    assert f"no server answers at {url}" in error
    assert "start one: conch serve --model-repository=models" in error
