"""`conch bench` against a server of canned answers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conch.bench import measure
from conch.cli.main import main
from tests.unit.cli.stub_server import StubServer

MODEL: dict[str, tuple[int, Any]] = {
    "/v2/models/m": (
        200,
        {
            "name": "m",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}, {"name": "json", "datatype": "BYTES"}],
        },
    ),
    "/v2/models/m/config": (200, {"name": "m", "max_batch_size": 8, "input": [{"name": "x"}]}),
    "/v2/models/m/infer": (200, {"model_name": "m", "outputs": []}),
    "/v2/repository/index": (200, [{"name": "m", "version": "1", "state": "READY"}]),
}
SHORT = ["--seconds", "0.25", "--warmup", "0", "--concurrency", "1"]
SHAPE = ["--shape", "x:2"]


@pytest.fixture
def stub_server() -> Iterator[StubServer]:
    with StubServer(MODEL).running() as server:
        yield server


def bench(server: StubServer, *arguments: str) -> int:
    """Measure, and for longer than a moment where the machine is too busy to answer a few requests in it."""
    pass_time = measure._pass

    async def long_enough(seconds: float, tick: Callable[[float], None]) -> None:
        before = len(server.requests)
        await pass_time(seconds, tick)
        while seconds and len(server.requests) < before + 6:
            await asyncio.sleep(0.01)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "_pass", long_enough)
        return main(["bench", "m", "--url", server.url, *SHORT, *arguments])


def infers(server: StubServer) -> list[tuple[dict[str, Any], bytes]]:
    return [(head, data) for path, head, data in server.requests if path.endswith("/infer")]


def test_throughput_and_latency_are_printed(stub_server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(stub_server, *SHAPE) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "m: 32 different requests, the first: x FP32 [1, 2]"
    assert lines[1].split()[:3] == ["concurrency", "infer/s", "p50"]
    assert float(lines[2].split()[1]) > 0


def test_json_holds_every_setting(stub_server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(stub_server, *SHAPE, "--rate", "100", "--batch", "3", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["setting"] for each in document["measurements"]] == [
        {"concurrency": 1, "rate": 0.0},
        {"concurrency": 0, "rate": 100.0},
    ]
    assert (document["batch"], document["inputs"][0]["shape"]) == (3, [3, 2])
    assert all(each["latency"]["p99_ms"] >= each["latency"]["p50_ms"] for each in document["measurements"])


def test_requests_differ_and_ask_for_what_programs_read(stub_server: StubServer) -> None:
    assert bench(stub_server, *SHAPE, "--distinct", "3", "-p", "top_k=2") == 0
    sent = infers(stub_server)
    assert len({data for _, data in sent}) == 3
    assert all([output["name"] for output in head["outputs"]] == ["y"] for head, _ in sent)
    assert all(head["parameters"] == {"top_k": 2} for head, _ in sent)


def test_given_inputs_and_outputs_are_used(stub_server: StubServer) -> None:
    assert bench(stub_server, "-i", "x=[1, 2]", "-o", "json") == 0
    sent = infers(stub_server)
    assert {data for _, data in sent} == {b"\0\0\x80\x3f\0\0\0\x40"}
    assert sent[0][0]["outputs"][0]["name"] == "json"


def test_requests_come_from_a_file(stub_server: StubServer, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"x": [1, 2]}\n\n{"x": [3, 4, 5]}\n')
    assert bench(stub_server, "--inputs", str(rows), "--distinct", "1") == 0
    assert {tuple(head["inputs"][0]["shape"]) for head, _ in infers(stub_server)} == {(1, 2), (1, 3)}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-i", "z=1"], "model 'm' has no input 'z'; its inputs are x"),
        (["-i", "x"], "-i expects NAME=VALUE, got 'x'"),
        (["--shape", "x:2,3"], "--shape x:2,3: input 'x' has the shape [-1]"),
        (["--shape", "y:2"], "the model has no input 'y'; its inputs are x"),
        (["--shape", "x=2"], "--shape expects NAME:N,N,..., got 'x=2'"),
        ([*SHAPE, "-o", "z"], "model 'm' has no output 'z'; its outputs are y, json"),
        ([*SHAPE, "--rate", "fast"], "--rate expects numbers separated by commas, got 'fast'"),
        ([*SHAPE, "--concurrency", "0"], "--concurrency expects numbers above 0, got '0'"),
        ([*SHAPE, "--batch", "0"], "--batch expects 1 or more, got 0"),
        ([*SHAPE, "--seconds", "0"], "--seconds and --timeout expect more than 0"),
        (["--inputs", "none.jsonl"], "--inputs: cannot read 'none.jsonl': No such file"),
    ],
)
def test_arguments_that_do_not_fit_exit_with_2(
    stub_server: StubServer, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(stub_server, *arguments) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "has no lines"),
        ("{", "line 1 of"),
        ("[1]", "expected an object such as"),
        ('{"x": [1, 2]}\n{"y": 1}', "line 2 of"),
    ],
)
def test_a_file_of_requests_that_cannot_be_read_is_refused(
    stub_server: StubServer, tmp_path: Path, text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(text)
    assert bench(stub_server, "--inputs", str(rows)) == 2
    assert expected in capsys.readouterr().err


def test_an_input_of_any_size_asks_for_its_size(stub_server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(stub_server) == 2
    assert "input 'x' is FP32 [-1]: say how large to make it, e.g. --shape x:16" in capsys.readouterr().err


def test_a_model_that_refuses_the_request_shows_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    answers = MODEL | {"/v2/models/m/infer": (400, {"error": "x must not be empty"})}
    with StubServer(answers).running() as server:
        assert bench(server, *SHAPE) == 1
    assert "model 'm' refuses the request: 400: x must not be empty" in capsys.readouterr().err


class FillingUp(dict[str, tuple[int, Any]]):
    """Answers the trial request, and refuses all others."""

    infers = 0

    def get(self, path: str, default: Any = None) -> Any:
        if path.endswith("/infer"):
            self.infers += 1
            if self.infers > 1:
                return 503, {"error": "Exceeds maximum queue size"}
        return super().get(path, default)


def test_errors_under_load_are_counted_and_the_first_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with StubServer(FillingUp(MODEL)).running() as server:
        assert bench(server, *SHAPE, "--seconds", "0.5") == 1
    output = capsys.readouterr()
    assert "errors at 1: the first was: 503: Exceeds maximum queue size" in output.out
    assert "every request failed: 503: Exceeds maximum queue size" in output.err


def test_an_unknown_model_lists_those_served(stub_server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "nope", "--url", stub_server.url]) == 1
    assert "the server has m: conch bench m" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_missing_server_names_the_command_that_starts_one(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"127.0.0.1:{taken.getsockname()[1]}"
    assert main(["bench", "m", "--protocol", protocol, "--url", url]) == 1
    error = capsys.readouterr().err
    assert f"no server answers at {url}" in error
    assert "start one: conch serve --model-repository=models" in error


def test_an_error_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "m", "--url", "https://localhost:1", "--json"]) == 2
    assert "without TLS" in json.loads(capsys.readouterr().out)["error"]


def test_a_plot_is_written(stub_server: StubServer, tmp_path: Path) -> None:
    assert bench(stub_server, *SHAPE, "--plot", str(tmp_path / "sweep.svg")) == 0
    assert (tmp_path / "sweep.svg").read_text().startswith("<svg")


def test_a_plot_that_cannot_be_written_is_refused_before_anything_is_measured(
    stub_server: StubServer, tmp_path: Path
) -> None:
    assert bench(stub_server, *SHAPE, "--plot", str(tmp_path / "sweep.gif")) == 2
    assert stub_server.requests == []
