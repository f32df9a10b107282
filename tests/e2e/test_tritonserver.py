"""Programs written for NVIDIA's packages `tritonserver` and `tritonfrontend`, over conch."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc
import tritonclient.http

import conch
from conch import tritonserver
from conch.errors import InvalidArgumentError, NotFoundError, UnavailableError, UnsupportedError
from conch.testing import ModelRepositoryBuilder
from conch.tritonfrontend import KServeGrpc, KServeHttp, Metrics
from tests.e2e.test_inprocess import REPEAT, REPEAT_CONFIG

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    builder = ModelRepositoryBuilder(tmp_path_factory.mktemp("tritonserver") / "models")
    builder.add_identity().add_identity("texts", datatype="TYPE_STRING", max_batch_size=0)
    return builder.add("repeat", REPEAT, REPEAT_CONFIG).root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[tritonserver.Server]:
    options = tritonserver.Options(
        str(repository),
        server_id="mine",
        model_control_mode=tritonserver.ModelControlMode.EXPLICIT,
        startup_models=["identity", "texts", "repeat"],
    )
    running = tritonserver.Server(options).start(wait_until_ready=True)
    yield running
    running.stop()


def test_a_server_tells_of_itself_and_its_models(server: tritonserver.Server) -> None:
    assert server.live() and server.ready()
    assert server.metadata()["name"] == "mine"
    models = server.models()
    assert {key: model.state for key, model in models.items()} == {
        ("identity", 1): "READY",
        ("repeat", 1): "READY",
        ("texts", 1): "READY",
    }
    assert (models["identity"].version, models["identity"].ready()) == (-1, True)
    with pytest.raises(KeyError, match="Unknown Model: nope"):
        models["nope"]
    assert 'nv_inference_request_success{model="identity",version="1"}' in server.metrics()


def test_a_model_tells_of_itself(server: tritonserver.Server) -> None:
    model = server.model("identity")
    assert model.metadata()["inputs"][0]["datatype"] == "FP32"
    assert model.config()["max_batch_size"] == 8
    assert model.statistics()["model_stats"][0]["name"] == "identity"
    assert model.batch_properties() == tritonserver.ModelBatchFlag.FIRST_DIM
    assert server.model("texts").batch_properties() == tritonserver.ModelBatchFlag.UNKNOWN
    assert model.transaction_properties() == tritonserver.ModelTxnPropertyFlag.ONE_TO_ONE
    assert server.model("repeat").transaction_properties() == tritonserver.ModelTxnPropertyFlag.DECOUPLED
    assert str(model) == "{'name': 'identity', 'version': -1, 'state': None}"


def test_tensors_come_and_go_over_dlpack(server: tritonserver.Server) -> None:
    model = server.model("identity")
    for given in (ARRAY, torch.from_numpy(ARRAY), ARRAY.tolist(), tritonserver.Tensor.from_dlpack(ARRAY)):
        inputs = {"INPUT0": np.array(given, np.float32) if isinstance(given, list) else given}
        (response,) = model.infer(inputs=inputs, request_id="r")
        output = response.outputs["OUTPUT0"]
        assert (response.request_id, response.final, response.model.version) == ("r", True, 1)
        assert (output.data_type, output.shape, output.size) == (tritonserver.DataType.FP32, (2, 3), 24)
        assert output.memory_type == tritonserver.MemoryType.CPU
        np.testing.assert_array_equal(np.from_dlpack(output), ARRAY)
        np.testing.assert_array_equal(torch.from_dlpack(output).numpy(), ARRAY)
        np.testing.assert_array_equal(np.array(output.to_host()), ARRAY)
    with pytest.raises(UnsupportedError, match="tensors are in host memory"):
        output.to_device("gpu:0")


def test_memory_of_the_program_is_sent_and_answered_in(server: tritonserver.Server) -> None:
    given, taken = ARRAY.copy(), np.zeros(24, np.uint8)

    class Mine(tritonserver.MemoryAllocator):
        def allocate(self, *asked: object) -> tritonserver.MemoryBuffer:
            return tritonserver.MemoryBuffer.from_dlpack(taken)

    buffer = tritonserver.MemoryBuffer.from_dlpack(given)
    tensor = tritonserver.Tensor(tritonserver.DataType.FP32, (2, 3), buffer)
    (response,) = server.model("identity").infer(inputs={"INPUT0": tensor}, output_memory_allocator=Mine())
    assert response.outputs["OUTPUT0"].data_ptr == taken.ctypes.data
    np.testing.assert_array_equal(taken.view(np.float32).reshape(2, 3), ARRAY)


def test_texts_come_and_go_as_strings_or_bytes(server: tritonserver.Server) -> None:
    model = server.model("texts")
    tensor = tritonserver.Tensor.from_string_array(["a", "ü"])
    (response,) = model.infer(inputs={"INPUT0": tensor})
    output = response.outputs["OUTPUT0"]
    assert output.to_string_array().tolist() == ["a", "ü"]
    assert output.to_bytes_array().tolist() == [b"a", "ü".encode()]
    (response,) = model.infer(inputs={"INPUT0": tritonserver.Tensor.from_bytes_array([b"\xff"])})
    with pytest.raises(InvalidArgumentError, match="no UTF-8 text"):
        response.outputs["OUTPUT0"].to_string_array()
    with pytest.raises(InvalidArgumentError, match="expected texts or bytes, got elements of FP32"):
        tritonserver.Tensor.from_bytes_array(ARRAY)
    with pytest.raises(InvalidArgumentError, match="Tensor has data type FP32 not BYTES"):
        tritonserver.Tensor.from_dlpack(ARRAY).to_bytes_array()


def test_a_decoupled_model_says_its_end(server: tritonserver.Server) -> None:
    request = server.model("repeat").create_request(inputs={"COUNT": np.array([2], np.int32)})
    responses = list(server.model("repeat").infer(request))
    assert [response.final for response in responses] == [False, False, True]
    assert [int(np.array(each.outputs["NUMBER"])[0]) for each in responses[:-1]] == [0, 1]
    assert responses[-1].outputs == {}


def test_errors_are_raised_or_handed_over(server: tritonserver.Server) -> None:
    model = server.model("identity")
    with pytest.raises(tritonserver.InvalidArgumentError, match="unexpected inference input 'WRONG'"):
        next(model.infer(inputs={"WRONG": ARRAY}))
    (response,) = model.infer(inputs={"WRONG": ARRAY}, raise_on_error=False)
    assert isinstance(response.error, tritonserver.TritonError)
    with pytest.raises(tritonserver.NotFoundError):
        next(server.model("nope").infer(inputs={}))
    with pytest.raises(UnsupportedError, match="outputs are in host memory"):
        model.infer(inputs={"INPUT0": ARRAY}, output_memory_type="gpu")
    with pytest.raises(UnsupportedError, match="'response_queue' of a request is not offered"):
        model.infer(inputs={"INPUT0": ARRAY}, response_queue=object())


def test_requests_are_awaited_inside_a_running_event_loop(server: tritonserver.Server) -> None:
    """As in a notebook: the loop runs already, and its cells call both kinds of methods."""

    async def cell() -> None:
        assert server.ready()
        (blocking,) = server.model("identity").infer(inputs={"INPUT0": ARRAY})
        (awaited,) = [each async for each in server.model("identity").async_infer(inputs={"INPUT0": ARRAY})]
        for response in (blocking, awaited):
            np.testing.assert_array_equal(np.array(response.outputs["OUTPUT0"]), ARRAY)
        given_up = server.model("repeat").async_infer(inputs={"COUNT": np.array([10**6], np.int32)})
        await anext(given_up)
        given_up.cancel()
        with pytest.raises(conch.errors.CancelledError):
            async for _ in given_up:
                await asyncio.sleep(0)

    asyncio.run(cell())


def test_a_server_starts_and_stops_inside_a_running_event_loop(repository: Path) -> None:
    async def cell() -> None:
        with conch.Server(repository, model_control_mode="explicit", load_model=("identity",)) as server:
            (response,) = server.model("identity").infer(inputs={"INPUT0": ARRAY})
            np.testing.assert_array_equal(response.outputs["OUTPUT0"], ARRAY)

    asyncio.run(cell())


def test_models_and_repositories_come_and_go(server: tritonserver.Server, tmp_path: Path) -> None:
    other = str(ModelRepositoryBuilder(tmp_path / "other").add_identity("directory").root)
    server.register_model_repository(other, {"directory": "renamed"})
    assert ("renamed", -1) in server.models()
    model = server.load("renamed")
    assert model.ready()
    server.unload(model, wait_until_unloaded=True)
    server.unregister_model_repository(other)
    assert "renamed" not in [name for name, _ in server.models()]
    with pytest.raises(tritonserver.NotFoundError, match="failed to unregister"):
        server.unregister_model_repository(other)
    with pytest.raises(UnavailableError, match="polling is disabled"):
        server.poll_model_repository()


def test_a_repository_that_is_polled_on_demand(tmp_path: Path) -> None:
    builder = ModelRepositoryBuilder(tmp_path / "models").add_identity()
    mode = tritonserver.ModelControlMode.POLL
    polled = tritonserver.Server(model_repository=[str(builder.root)], model_control_mode=mode).start()
    try:
        builder.add_identity("late")
        polled.poll_model_repository()
        assert polled.model("late").ready()
    finally:
        polled.stop()


def test_metrics_of_the_program_are_on_the_page(server: tritonserver.Server) -> None:
    family = tritonserver.MetricFamily(tritonserver.MetricKind.COUNTER, "my_calls", "calls of mine")
    metric = tritonserver.Metric(family, {"who": "me"})
    metric.increment(2)
    assert (metric.value(), metric.kind) == (2.0, tritonserver.MetricKind.COUNTER)
    assert '# TYPE my_calls counter\nmy_calls{who="me"} 2\n' in server.metrics()
    with pytest.raises(tritonserver.InvalidArgumentError):
        metric.increment(-1)
    with pytest.raises(tritonserver.InvalidArgumentError):
        metric.set_value(1)
    gauge = tritonserver.Metric(tritonserver.MetricFamily(tritonserver.MetricKind.GAUGE, "my_level", "a level"))
    gauge.set_value(0.5)
    assert "my_level 0.5\n" in server.metrics()


def test_a_server_that_is_not_started_says_so(repository: Path) -> None:
    idle = tritonserver.Server(model_repository=str(repository))
    assert not idle.live() and not idle.ready()
    with pytest.raises(InvalidArgumentError, match="Server not started"):
        idle.model("identity")


def test_options_without_effect_are_logged(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    tritonserver.Options(str(repository), host_policies={"p": {"numa-node": "0"}}, exit_timeout=3).for_conch()
    assert [record.message for record in caplog.records] == ["option 'host_policies' has no effect"]


def test_frontends_open_ports_of_the_server(server: tritonserver.Server) -> None:
    local = "127.0.0.1"
    http = KServeHttp(server, KServeHttp.Options(local, 0))
    with (
        http,
        KServeGrpc(server, KServeGrpc.Options(local, 0)) as grpc,
        Metrics(server, Metrics.Options(local, 0)) as page,
    ):
        client = tritonclient.http.InferenceServerClient(f"{local}:{http.port}")
        tensor = tritonclient.http.InferInput("INPUT0", [2, 3], "FP32").set_data_from_numpy(ARRAY)
        np.testing.assert_array_equal(client.infer("identity", [tensor]).as_numpy("OUTPUT0"), ARRAY)
        client.close()
        with tritonclient.grpc.InferenceServerClient(f"{local}:{grpc.port}") as other:
            assert other.is_server_ready()
        with urllib.request.urlopen(f"http://{local}:{page.port}/metrics", timeout=60) as answer:
            assert b"nv_inference_request_success" in answer.read()
        with pytest.raises(InvalidArgumentError, match="KServeHttp is running already"):
            http.start()
    assert http.port == 0
    http.start()
    http.stop()


def test_a_frontend_with_wrong_options_or_a_port_that_is_taken(server: tritonserver.Server) -> None:
    with pytest.raises(InvalidArgumentError, match="Incorrect type for options"):
        KServeHttp(server, KServeGrpc.Options())  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="infer_compression_level must be 0, 1, 2 or 3, got 9"):
        KServeGrpc(server, KServeGrpc.Options(infer_compression_level=9)).start()
    with KServeHttp(server, KServeHttp.Options("127.0.0.1", 0)) as first:
        second = KServeHttp(server, KServeHttp.Options("127.0.0.1", first.port))
        with pytest.raises(UnavailableError, match="cannot be listened on"):
            second.start()


def test_a_frontend_ends_with_its_server(repository: Path) -> None:
    with conch.Server(repository, model_control_mode="explicit") as server:
        frontend = KServeHttp(server, KServeHttp.Options("127.0.0.1", 0))
        frontend.start()
        port = frontend.port
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v2", timeout=60)
    frontend.stop()


def test_not_found_is_the_servers_own_error() -> None:
    assert tritonserver.NotFoundError is NotFoundError
