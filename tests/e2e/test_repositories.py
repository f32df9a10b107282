"""Servers whose repositories are not directories: an object store, and a checkpoint."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conch.testing.repository import IDENTITY_MODEL
from tests.serving import ServerProcess, serving, wait_until
from tests.unit.repositories.s3_server import S3Server

CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
DOUBLING_MODEL = IDENTITY_MODEL.replace('"INPUT0").as_numpy()', '"INPUT0").as_numpy() * 2')
PIPE = """
platform: "ensemble"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
ensemble_scheduling { step [ {
  model_name: "echo" model_version: -1
  input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "OUTPUT0" }
} ] }
"""
EXAMPLES = Path(__file__).parents[2] / "examples"


def post(server: ServerProcess, path: str, document: Any) -> Any:
    """The answer, an error too."""
    request = urllib.request.Request(f"http://{server.http_url}{path}", json.dumps(document).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return json.loads(error.read())


def infer(server: ServerProcess, model: str = "echo") -> Any:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    answer = post(server, f"/v2/models/{model}/infer", {"inputs": [tensor]})
    return answer["outputs"][0]["data"] if "outputs" in answer else answer["error"]


def index(server: ServerProcess) -> list[tuple[str, str]]:
    return [(entry["name"], entry.get("state", "")) for entry in post(server, "/v2/repository/index", {})]


@pytest.fixture
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with S3Server("bucket").running() as server:
        server.objects = {
            "models/echo/config.pbtxt": CONFIG.encode(),
            "models/echo/1/model.py": IDENTITY_MODEL.encode(),
            "models/pipe/config.pbtxt": PIPE.encode(),
            "models/pipe/1/": b"",
        }
        yield server


def s3_flags(s3: S3Server, cache: Path) -> list[str]:
    return [f"--model-repository=s3://127.0.0.1:{s3.port}/bucket/models", f"--repository-cache-directory={cache}"]


def test_models_of_an_object_store_are_served_and_loaded_anew(tmp_path: Path, s3_server: S3Server) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    flags = [*s3_flags(s3_server, tmp_path / "cache"), "--model-control-mode=explicit", "--load-model=pipe"]
    with serving(empty, *flags) as server:
        assert index(server) == [("echo", "READY"), ("pipe", "READY")]
        assert infer(server, "pipe") == [1, 2]
        s3_server.objects["models/echo/1/model.py"] = DOUBLING_MODEL.encode()
        assert infer(server) == [1, 2]
        assert post(server, "/v2/repository/models/echo/load", {}) is None
        assert (infer(server), infer(server, "pipe")) == ([2, 4], [2, 4])
        s3_server.objects["models/new/1/model.py"] = IDENTITY_MODEL.encode()
        s3_server.objects["models/new/../../evil"] = b""
        answer = post(server, "/v2/repository/models/new/load", {})
        assert "'new' of 's3://127.0.0.1" in answer["error"]
        assert "is refused: its object 'bucket/models/new/../../evil' would leave" in answer["error"]
        s3_server.denies = True
        answer = post(server, "/v2/repository/models/echo/load", {})
        assert "cannot be read: PermissionError" in answer["error"]
        assert infer(server, "pipe") == [2, 4]
    assert s3_server.downloads.count("models/echo/config.pbtxt") == 1
    assert s3_server.keys == {"mine"}


def test_polling_sees_what_changes_in_an_object_store(tmp_path: Path, s3_server: S3Server) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    flags = [*s3_flags(s3_server, tmp_path / "cache"), "--model-control-mode=poll", "--repository-poll-secs=1"]
    with serving(empty, *flags) as server:
        assert infer(server) == [1, 2]
        s3_server.objects["models/echo/1/model.py"] = DOUBLING_MODEL.encode()
        wait_until(lambda: infer(server) == [2, 4])
        del s3_server.objects["models/pipe/config.pbtxt"], s3_server.objects["models/pipe/1/"]
        wait_until(lambda: ("pipe", "UNAVAILABLE") in index(server))
        s3_server.denies = True
        wait_until(lambda: "cannot poll the model repository" in server.log_text())
        assert infer(server) == [2, 4]


def test_a_store_that_cannot_be_read_ends_the_start_with_its_reason(tmp_path: Path, s3_server: S3Server) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    s3_server.denies = True
    refused = pytest.raises(AssertionError, match=r"error: creating server: model repository 's3://.* cannot be read")
    with refused, serving(empty, *s3_flags(s3_server, tmp_path / "cache")):
        raise NotImplementedError("it serves")


@pytest.mark.slow
def test_a_checkpoint_is_deployed_at_the_start_and_found_deployed_by_the_next_server(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    empty = tmp_path / "empty"
    empty.mkdir()
    url = f"hf://{EXAMPLES / 'shapes-clip'}?name=shapes&no-verify=true"
    flags = [f"--model-repository={url}", f"--repository-cache-directory={tmp_path / 'cache'}"]
    with serving(empty, *flags, limit_s=250) as server:
        assert index(server) == [("shapes", "READY")]
        assert "shapes: wrote shapes" in server.log_text()
        assert not list(empty.iterdir())
    with serving(empty, *flags) as server:
        assert index(server) == [("shapes", "READY")]
        assert "is deployed already" in server.log_text()


def test_a_deploy_that_fails_is_the_reason_of_its_model(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    flags = [
        f"--model-repository=hf://{broken}",
        f"--repository-cache-directory={tmp_path / 'cache'}",
        "--exit-on-error=false",
    ]
    with serving(empty, *flags, ready=False) as server:
        wait_until(lambda: index(server) == [("broken", "UNAVAILABLE")], 60)
        (entry,) = post(server, "/v2/repository/index", {})
        assert "cannot be deployed: " in entry["reason"]
        assert "has no config.json" in entry["reason"]
