"""The RPCs beside inference: queries, repository, log settings, health, reflection."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
import tritonclient.grpc as tritongrpc
from google.protobuf import descriptor_pb2
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from conch.wire.grpc.descriptors import ProtoFile
from conch.wire.grpc.health import health_file
from conch.wire.grpc.reflection import reflection_file
from tests.unit.wire.grpc.conftest import Endpoint


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def failure(call: Any, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    return caught.value.code().name, caught.value.details()


def test_liveness_and_readiness(stub: Any, endpoint: Endpoint) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    endpoint.server.ready = False
    assert not stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name="echo", version="1")).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="nope")).ready


def test_metadata_of_server_and_model(stub: Any) -> None:
    server = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (server.name, server.version, list(server.extensions)) == ("conch", "0.1", ["classification", "sequence"])
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="echo"))
    assert (model.name, list(model.versions), model.platform) == ("echo", ["1"], "python")
    assert [(i.name, i.datatype, list(i.shape)) for i in model.inputs] == [("IN0", "FP32", [-1, 16])]
    expected = ("NOT_FOUND", "Request for unknown model: 'nope' is not found")
    assert failure(stub.ModelMetadata, pb.ModelMetadataRequest(name="nope")) == expected


def test_configuration_is_the_models_own_message(stub: Any) -> None:
    config = stub.ModelConfig(pb.ModelConfigRequest(name="echo")).config
    assert (config.name, config.backend, config.max_batch_size) == ("echo", "python", 8)


def test_statistics_carry_every_field(stub: Any) -> None:
    [one] = stub.ModelStatistics(pb.ModelStatisticsRequest(name="echo")).model_stats
    assert (one.name, one.version, one.last_inference, one.inference_count, one.execution_count) == (
        "echo",
        "1",
        7,
        5,
        3,
    )
    assert (one.inference_stats.success.count, one.inference_stats.queue.ns) == (3, 1000)
    assert (one.batch_stats[0].batch_size, one.batch_stats[0].compute_output.ns) == (2, 1000)
    assert (one.response_stats["0"].success.count, one.response_stats["0"].cancel.ns) == (3, 5)


def test_repository_index_lists_models_with_their_state(stub: Any) -> None:
    models = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
    assert [(m.name, m.version, m.state) for m in models] == [("echo", "1", "READY"), ("other", "", "")]
    assert len(stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models) == 1
    expected = ("UNIMPLEMENTED", "'repository_name' specification is not supported")
    assert failure(stub.RepositoryIndex, pb.RepositoryIndexRequest(repository_name="x")) == expected


def test_load_passes_configuration_and_files_on(endpoint: Endpoint) -> None:
    with tritongrpc.InferenceServerClient(endpoint.address) as client:
        client.load_model("echo", config='{"name": "echo"}', files={"file:1/model.py": b"code"})
        client.load_model("echo")
        client.unload_model("echo", unload_dependents=True)
    assert endpoint.server.loads == [("echo", '{"name": "echo"}', {"1/model.py": b"code"}), ("echo", None, {})]
    assert endpoint.server.unloads == [("echo", True)]


def test_failed_load_says_why(stub: Any) -> None:
    code, text = failure(stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="nope"))
    assert (code, text) == ("NOT_FOUND", "failed to load 'nope', failed to poll from model repository")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("config", {"int64_param": 1}, "invalid value type for load parameter 'config', expected string_param."),
        ("file:1/x", {"string_param": ""}, "invalid value type for load parameter 'file:1/x', expected bytes_param."),
        ("foo", {"string_param": ""}, "unrecognized load parameter 'foo'."),
    ],
)
def test_wrong_load_parameters_are_refused(stub: Any, name: str, value: dict[str, Any], text: str) -> None:
    request = pb.RepositoryModelLoadRequest(model_name="echo")
    [(field, content)] = value.items()
    setattr(request.parameters[name], field, content)
    assert failure(stub.RepositoryModelLoad, request) == ("INVALID_ARGUMENT", text)


def test_wrong_unload_parameter_is_refused(stub: Any) -> None:
    request = pb.RepositoryModelUnloadRequest(model_name="echo")
    request.parameters["unload_dependents"].string_param = "yes"
    text = "invalid value type for 'unload_dependents' parameter, expected bool_param."
    assert failure(stub.RepositoryModelUnload, request) == ("INVALID_ARGUMENT", text)


def test_log_settings_are_read_and_changed(endpoint: Endpoint) -> None:
    with tritongrpc.InferenceServerClient(endpoint.address) as client:
        before = client.get_log_settings(as_json=True)["settings"]
        assert before["log_info"] == {"bool_param": True}
        assert before["log_format"] == {"string_param": "default"}
        after = client.update_log_settings({"log_verbose_level": 2, "log_info": False}, as_json=True)["settings"]
        assert after["log_verbose_level"] == {"uint32_param": 2}
    assert endpoint.server.log_changes == [{"log_verbose_level": 2, "log_info": False}]


@pytest.mark.parametrize(
    ("name", "field", "value", "failed"),
    [
        ("log_verbose_level", "string_param", "1", ("INVALID_ARGUMENT", "expect int32 for 'log_verbose_level'")),
        ("log_info", "uint32_param", 1, ("INVALID_ARGUMENT", "expect boolean for 'log_info'")),
        (
            "log_file",
            "bool_param",
            True,
            ("UNIMPLEMENTED", "log file location can not be updated through network protocol"),
        ),
    ],
)
def test_wrong_log_settings_are_refused(stub: Any, name: str, field: str, value: Any, failed: tuple[str, str]) -> None:
    request = pb.LogSettingsRequest()
    setattr(request.settings[name], field, value)
    assert failure(stub.LogSettings, request) == failed


def test_unknown_log_settings_are_ignored_as_in_triton(stub: Any, endpoint: Endpoint) -> None:
    request = pb.LogSettingsRequest()
    request.settings["colour"].string_param = "green"
    assert stub.LogSettings(request).settings["log_info"].bool_param
    assert endpoint.server.log_changes == []


def test_cuda_shared_memory_is_refused_as_by_a_triton_without_a_gpu(stub: Any) -> None:
    code, text = failure(stub.CudaSharedMemoryRegister, pb.CudaSharedMemoryRegisterRequest(name="r"))
    assert (code, text) == ("INVALID_ARGUMENT", "failed to register shared memory region: invalid args")
    assert stub.CudaSharedMemoryStatus(pb.CudaSharedMemoryStatusRequest()).regions == {}


def test_trace_settings_are_read_and_changed(stub: Any) -> None:
    request = pb.TraceSettingRequest(settings={"trace_rate": pb.TraceSettingRequest.SettingValue(value=["5"])})
    assert list(stub.TraceSetting(request).settings["trace_rate"].value) == ["5"]
    shown = stub.TraceSetting(pb.TraceSettingRequest()).settings
    assert list(shown["trace_rate"].value) == ["5"] and list(shown["trace_level"].value) == ["OFF"]
    request.settings["trace_level"].value.append("TIMESTAMPS")
    assert failure(stub.TraceSetting, request) == (
        "INVALID_ARGUMENT",
        "Attempting to set invalid trace setting :trace file name is not given",
    )


def test_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    code, text = failure(channel.unary_unary("/inference.GRPCInferenceService/Nope"), b"")
    assert (code, text) == ("UNIMPLEMENTED", "unknown method '/inference.GRPCInferenceService/Nope'")


def test_every_method_of_the_service_is_served(channel: grpc.Channel) -> None:
    for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method.name}")
        try:
            call(b"")
        except grpc.RpcError as error:
            assert "unknown method" not in error.details()


# Health

_HEALTH = health_file().classes()


def test_health_follows_readiness_whatever_the_service(channel: grpc.Channel, endpoint: Endpoint) -> None:
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"") == b"\x08\x01"
    assert check(_HEALTH["HealthCheckRequest"](service="any").SerializeToString()) == b"\x08\x01"
    endpoint.server.ready = False
    assert check(b"") == b"\x08\x02"


def test_watched_health_tells_changes_and_ends_with_the_server(channel: grpc.Channel, endpoint: Endpoint) -> None:
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=60)
    assert next(watch) == b"\x08\x01"
    endpoint.server.ready = False
    assert next(watch) == b"\x08\x02"
    endpoint.do(endpoint.grpc.drain(10))
    assert list(watch) == []


# Reflection


def reflect(channel: grpc.Channel, version: str, **request: str) -> Any:
    classes = reflection_file(version).classes()
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=classes["ServerReflectionRequest"].SerializeToString,
        response_deserializer=classes["ServerReflectionResponse"].FromString,
    )
    [answer] = call(iter([classes["ServerReflectionRequest"](**request)]), timeout=60)
    return answer


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_services(channel: grpc.Channel, version: str) -> None:
    services = reflect(channel, version, list_services="").list_services_response.service
    assert [service.name for service in services] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
    ]


@pytest.mark.parametrize(
    "symbol",
    [
        "inference.GRPCInferenceService",
        "inference.GRPCInferenceService.ModelInfer",
        "inference.ModelInferRequest.InferInputTensor",
        "inference.ModelConfig",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ],
)
def test_reflection_finds_the_file_of_a_symbol_with_its_dependencies(channel: grpc.Channel, symbol: str) -> None:
    answer = reflect(channel, "v1", file_containing_symbol=symbol)
    raw = answer.file_descriptor_response.file_descriptor_proto
    files = [descriptor_pb2.FileDescriptorProto.FromString(one) for one in raw]
    assert symbol.startswith(files[0].package)
    names = {file.name for file in files}
    assert {dependency for file in files for dependency in file.dependency} <= names
    by_name = reflect(channel, "v1", file_by_filename=files[0].name)
    assert by_name.file_descriptor_response.file_descriptor_proto[0] == raw[0]


def test_reflection_answers_the_unknown_with_not_found(channel: grpc.Channel) -> None:
    for request in ({"file_containing_symbol": "a.B"}, {"file_by_filename": "x.proto"}, {"list_services": ""}):
        answer = reflect(channel, "v1", **request)
        assert answer.error_response.error_code == (0 if "list_services" in request else 5)


def test_standard_messages_are_those_of_the_official_package() -> None:
    health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
    reflection_pb2 = pytest.importorskip("grpc_reflection.v1alpha.reflection_pb2")
    for ours, official in ((health_file(), health_pb2), (reflection_file("v1alpha"), reflection_pb2)):
        theirs = descriptor_pb2.FileDescriptorProto.FromString(official.DESCRIPTOR.serialized_pb)
        assert shape(ours.proto) == shape(theirs)


def shape(file: descriptor_pb2.FileDescriptorProto) -> Any:
    """All that matters on the wire, and names (but the file's: the packages of Python renamed theirs)."""
    fields = {
        (message.name, field.name, field.number, field.type, field.label, field.type_name)
        for message in file.message_type
        for field in message.field
    }
    methods = {
        (service.name, method.name, method.input_type, method.output_type, method.client_streaming)
        for service in file.service
        for method in service.method
    }
    return file.package, fields, methods


def test_proto_file_classes_live_in_a_pool_of_their_own() -> None:
    first, second = (ProtoFile("same/name.proto", "same") for _ in range(2))
    for file in (first, second):
        file.message("M", [("text", 1, "string", False)])
    assert first.classes()["M"](text="a").SerializeToString() == second.classes()["M"](text="a").SerializeToString()
