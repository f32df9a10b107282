"""SageMaker's endpoints of several models, against what Triton 2.51 answers there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conch.config.restrictions import Restriction
from conch.errors import BackendError
from conch.wire.http.platforms import SageMaker
from conch.wire.http.server import HttpOptions, make_api
from conch.wire.shared_memory import SharedMemoryRegions
from tests.unit.wire.http.fake_server import FakeServer
from tests.unit.wire.http.test_platforms import ask, error

_BODY = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "BYTES", "shape": [1], "data": ["x"]}]}).encode()
_ENSEMBLE = 'platform: "ensemble"'


class Endpoint:
    """SageMaker's port in front of a server whose models can be loaded from below a directory.

    `one_string` and `batched` are names that the server has models for.
    """

    def __init__(self, root: Path, options: HttpOptions | None = None) -> None:
        self.root = root
        self.server = FakeServer()
        api = make_api(self.server, options or HttpOptions(), SharedMemoryRegions(), None)
        self.app = SageMaker(self.server, api, "default", root)

    def archive(self, name: str, **configs: str | None) -> str:
        """An archive with these model directories; None leaves config.pbtxt out."""
        directory = self.root / name / "model"
        for model, config in configs.items():
            (directory / model / "1").mkdir(parents=True)
            if config is not None:
                (directory / model / "config.pbtxt").write_text(config)
        return str(directory)

    def load(self, name: object, url: object) -> tuple[int, dict[str, str], bytes]:
        return ask(self.app, "POST", "/models", json.dumps({"model_name": name, "url": url}).encode())


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    return Endpoint(tmp_path)


def test_a_model_is_loaded_listed_invoked_and_unloaded(endpoint: Endpoint) -> None:
    url = endpoint.archive("hash", mine="")
    assert endpoint.load("one_string", url)[::2] == (200, b"")
    shown = {"modelName": "one_string", "modelUrl": url}
    assert json.loads(ask(endpoint.app, "GET", "/models")[2]) == {"models": [shown]}
    assert json.loads(ask(endpoint.app, "GET", "/models/one_string")[2]) == shown
    status, _, body = ask(endpoint.app, "POST", "/models/one_string/invoke", _BODY)
    assert (status, json.loads(body)["outputs"][0]["data"]) == (200, ["x"])
    assert ask(endpoint.app, "DELETE", "/models/one_string")[::2] == (200, b"")
    assert ask(endpoint.app, "GET", "/models")[2] == b'{"models":[]}'
    assert ask(endpoint.app, "POST", "/models/one_string/invoke", _BODY)[::2] == (404, b"")
    assert endpoint.server.calls == [
        ("register", url, {"mine": "one_string"}),
        ("load", "one_string", None, {}),
        ("unload", "one_string", True),
        ("unregister", url),
    ]


def test_an_archive_may_be_the_models_own_directory(endpoint: Endpoint) -> None:
    (endpoint.root / "hash" / "model" / "1").mkdir(parents=True)
    (endpoint.root / "hash" / "model" / "config.pbtxt").write_text("")
    assert endpoint.load("one_string", str(endpoint.root / "hash" / "model"))[0] == 200
    assert endpoint.server.calls[0] == ("register", str(endpoint.root / "hash"), {"model": "one_string"})


def test_the_ensemble_of_several_models_is_the_one_that_is_meant(endpoint: Endpoint) -> None:
    url = endpoint.archive("hash", first="", second=_ENSEMBLE, third="")
    assert endpoint.load("one_string", url)[0] == 200
    assert endpoint.server.calls[0] == ("register", url, {"second": "one_string"})


@pytest.mark.parametrize("configs", [{}, {"a": "", "b": ""}, {"a": _ENSEMBLE, "b": _ENSEMBLE}])
def test_what_does_not_tell_the_model_is_refused(endpoint: Endpoint, configs: dict[str, str]) -> None:
    url = endpoint.archive("hash", **configs)
    Path(url).mkdir(parents=True, exist_ok=True)
    status, text = error(endpoint.load("one_string", url))
    assert status == 400
    assert "must hold a config.pbtxt, one model's directory, or several of which one is an ensemble" in text
    assert endpoint.server.calls == []


@pytest.mark.parametrize("url", ["/etc", "..", "/proc/1", "{root}/../elsewhere", "{root}", "{root}/link"])
def test_paths_outside_the_allowed_directory_are_refused(endpoint: Endpoint, tmp_path: Path, url: str) -> None:
    endpoint.root = endpoint.app._several._root = tmp_path / "allowed"
    endpoint.root.mkdir()
    (tmp_path / "elsewhere" / "model").mkdir(parents=True)
    (endpoint.root / "link").symlink_to(tmp_path / "elsewhere")
    status, text = error(endpoint.load("one_string", url.format(root=endpoint.root)))
    assert (status, endpoint.server.calls) == (400, [])
    assert text.startswith(f"models are loaded from directories below '{endpoint.root}' only (--sagemaker-model-root)")


def test_a_path_that_is_not_there_is_refused(endpoint: Endpoint) -> None:
    url = str(endpoint.root / "nope")
    assert error(endpoint.load("one_string", url)) == (400, f"failed to register '{url}', repository not found")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "failed to parse the request JSON buffer: Missing a name for object member. at 1"),
        (b"[]", "'model_name' must be a text that is not empty"),
        (b"", "'model_name' must be a text that is not empty"),
        (b'{"model_name": 5, "url": "/x"}', "'model_name' must be a text that is not empty"),
        (b'{"model_name": "m"}', "'url' must be a text that is not empty"),
    ],
)
def test_requests_that_name_no_model_are_refused(endpoint: Endpoint, body: bytes, text: str) -> None:
    status, told = error(ask(endpoint.app, "POST", "/models", body))
    assert status == 400
    assert told.startswith(text)


def test_a_model_that_is_there_already_is_a_conflict(endpoint: Endpoint) -> None:
    url = endpoint.archive("hash", mine="")
    assert endpoint.load("one_string", url)[0] == 200
    status, text = error(endpoint.load("one_string", url))
    assert (status, text) == (409, f"model repository '{url}' has already been registered")
    assert ask(endpoint.app, "GET", "/models/one_string")[0] == 200


def test_a_load_that_fails_leaves_nothing_behind(endpoint: Endpoint) -> None:
    url = endpoint.archive("hash", mine="")
    assert error(endpoint.load("unknown", url)) == (
        400,
        "failed to load 'unknown', failed to poll from model repository",
    )
    assert endpoint.server.repositories == set()
    assert ask(endpoint.app, "GET", "/models/unknown")[::2] == (404, b"")


def test_memory_that_ran_out_is_told_so_that_other_models_are_unloaded(endpoint: Endpoint) -> None:
    url = endpoint.archive("hash", mine="")
    assert endpoint.load("one_string", url)[0] == 200
    endpoint.server.failure = BackendError("CUDA out of memory. Tried to allocate 2 GiB")
    status, _ = error(ask(endpoint.app, "POST", "/models/one_string/invoke", _BODY))
    assert status == 507
    endpoint.server.failure = BackendError("something else")
    assert ask(endpoint.app, "POST", "/models/one_string/invoke", _BODY)[0] == 500


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/models/nope", 404),
        ("DELETE", "/models/nope", 404),
        ("DELETE", "/models", 404),
        ("PUT", "/models/nope", 400),
        ("PUT", "/models", 400),
        ("GET", "/models/nope/other", 400),
        ("POST", "/models/nope/other", 400),
        ("POST", "/models/nope/invoke", 404),
    ],
)
def test_paths_of_no_model_have_no_body(endpoint: Endpoint, method: str, target: str, status: int) -> None:
    assert ask(endpoint.app, method, target)[::2] == (status, b"")


def test_models_are_restricted_as_the_repository_is(tmp_path: Path) -> None:
    options = HttpOptions(restrictions={"model-repository": Restriction("x-admin", "secret")})
    endpoint = Endpoint(tmp_path, options)
    assert ask(endpoint.app, "GET", "/models")[0] == 403
    assert ask(endpoint.app, "POST", "/models", b"{}")[0] == 403
    assert ask(endpoint.app, "GET", "/models", x_admin="secret")[0] == 200
