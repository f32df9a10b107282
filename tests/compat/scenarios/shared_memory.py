"""System shared memory: registered over one protocol, used over both."""

from __future__ import annotations

from typing import Any

from ..messages import GrpcRequest, HttpRequest, Scenario
from .build import COUNT, ONES, base64_text, get, infer, int32, post, rpc, scenarios, tensor

SYSTEM, CUDA = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
IN, OUT = "/wire-compat-in", "/wire-compat-out"
FIRST = {"shared_memory_region": "in", "shared_memory_byte_size": 64}
SECOND = {**FIRST, "shared_memory_offset": 64}
#: What a `cudaIpcMemHandle_t` looks like; no device has it.
HANDLE = base64_text(bytes(64))
ANSWER = {"shared_memory_region": "out", "shared_memory_byte_size": 64}


def register(name: str, **fields: Any) -> HttpRequest:
    return post(f"{SYSTEM}/region/{name}/register", fields)


def cuda_register(**fields: Any) -> HttpRequest:
    return post(f"{CUDA}/region/z/register", {"raw_handle": {"b64": HANDLE}, **fields})


def asked(first: dict[str, Any], *outputs: dict[str, Any]) -> HttpRequest:
    """A request to `simple` whose first input has these parameters, and whose second lies in shared memory."""
    body: dict[str, Any] = {
        "inputs": [tensor("INPUT0", "INT32", [1, 16], **first), tensor("INPUT1", "INT32", [1, 16], **SECOND)]
    }
    if outputs:
        body["outputs"] = list(outputs)
    return infer("simple", body)


def output(name: str = "OUTPUT0", **parameters: Any) -> dict[str, Any]:
    return {"name": name, "parameters": parameters}


def _parameters(values: dict[str, Any]) -> dict[str, Any]:
    kinds = {str: "string_param", int: "int64_param", bool: "bool_param"}
    return {name: {kinds[type(value)]: value} for name, value in values.items()}


def called(
    first: dict[str, Any],
    second: dict[str, Any] = SECOND,
    outputs: list[dict[str, Any]] | None = None,
    raw: tuple[bytes, ...] = (),
    **fields: Any,
) -> GrpcRequest:
    """The same over gRPC; `raw` are the inputs that travel."""
    message: dict[str, Any] = {
        "model_name": "simple",
        "inputs": [
            {**tensor("INPUT0", "INT32", [1, 16]), "parameters": _parameters(first), **fields},
            {**tensor("INPUT1", "INT32", [1, 16]), "parameters": _parameters(second)},
        ],
        "raw_input_contents": [base64_text(part) for part in raw],
    }
    if outputs:
        message["outputs"] = [{**each, "parameters": _parameters(each["parameters"])} for each in outputs]
    return rpc("ModelInfer", message)


def _without(parameters: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if key != name}


HTTP: list[Scenario] = scenarios(
    nothing_registered=get(f"{SYSTEM}/status"),
    status_of_an_unknown_region=get(f"{SYSTEM}/region/zz/status"),
    register_an_object_that_is_not_there=register("in", key="/wire-compat-none", offset=0, byte_size=64),
    register_a_path=register("in", key="/../../etc/passwd", byte_size=64),
    register_without_size=register("in", key=IN, offset=0),
    register_without_key=register("in", offset=0, byte_size=64),
    register_with_a_number_for_key=register("in", key=5, byte_size=64),
    register_a_negative_size=register("in", key=IN, byte_size=-1),
    register_no_bytes=register("in", key=IN, byte_size=0),
    register_more_than_there_is=register("in", key=IN, byte_size=1 << 20),
    register_beyond_the_end=register("in", key=IN, offset=100, byte_size=64),
    register_text_for_a_size=register("in", key=IN, byte_size="64"),
    register_nothing=post(f"{SYSTEM}/region/in/register", ""),
    register_what_is_no_json=post(f"{SYSTEM}/region/in/register", "{"),
    register_no_name=post(f"{SYSTEM}/register", {"key": IN, "byte_size": 64}),
    register_the_inputs=register("in", key=IN, byte_size=128),
    register_the_inputs_again=register("in", key=IN, byte_size=128),
    register_the_outputs=register("out", key=OUT, offset=0, byte_size=128),
    status_of_all=get(f"{SYSTEM}/status"),
    status_of_one=get(f"{SYSTEM}/region/in/status"),
    status_by_post=post(f"{SYSTEM}/status"),
    register_by_get=get(f"{SYSTEM}/region/in/register"),
    inputs_in_place=asked(FIRST),
    one_input_in_place=infer(
        "simple",
        {"inputs": [tensor("INPUT0", "INT32", [1, 16], COUNT), tensor("INPUT1", "INT32", [1, 16], **SECOND)]},
    ),
    outputs_in_place=asked(FIRST, output(**ANSWER), output("OUTPUT1", **ANSWER, shared_memory_offset=64)),
    what_is_there_now=asked({**FIRST, "shared_memory_region": "out"}),
    one_output_in_place=asked(FIRST, output(**ANSWER), output("OUTPUT1")),
    one_output_in_place_and_one_binary=asked(FIRST, output(**ANSWER), output("OUTPUT1", binary_data=True)),
    an_output_in_place_with_room_to_spare=asked(FIRST, output(**{**ANSWER, "shared_memory_byte_size": 128})),
    an_output_too_large_for_its_place=asked(FIRST, output(**{**ANSWER, "shared_memory_byte_size": 32})),
    an_output_beyond_the_end=asked(FIRST, output(**ANSWER, shared_memory_offset=100)),
    an_output_without_size=asked(FIRST, output(**_without(ANSWER, "shared_memory_byte_size"))),
    an_output_in_an_unknown_region=asked(FIRST, output(**{**ANSWER, "shared_memory_region": "zz"})),
    an_output_at_a_negative_offset=asked(FIRST, output(**ANSWER, shared_memory_offset=-1)),
    an_output_with_text_for_a_size=asked(FIRST, output(**{**ANSWER, "shared_memory_byte_size": "64"})),
    an_input_without_size=asked(_without(FIRST, "shared_memory_byte_size")),
    an_input_that_is_too_short=asked({**FIRST, "shared_memory_byte_size": 32}),
    an_input_that_is_too_long=asked({**FIRST, "shared_memory_byte_size": 100}),
    an_input_beyond_the_end=asked({**FIRST, "shared_memory_offset": 100}),
    an_input_far_beyond_the_end=asked({**FIRST, "shared_memory_offset": 2000}),
    an_input_of_no_bytes=asked({**FIRST, "shared_memory_byte_size": 0}),
    an_input_in_an_unknown_region=asked({**FIRST, "shared_memory_region": "zz"}),
    an_input_in_place_and_behind=asked({**FIRST, "binary_data_size": 64}),
    an_input_with_text_for_an_offset=asked({**FIRST, "shared_memory_offset": "0"}),
    an_input_of_a_negative_size=asked({**FIRST, "shared_memory_byte_size": -64}),
    an_input_with_a_huge_size=asked({**FIRST, "shared_memory_byte_size": 2**64 - 1, "shared_memory_offset": 1}),
)

GRPC: list[Scenario] = scenarios(
    grpc_status_of_all=rpc("SystemSharedMemoryStatus", {}),
    grpc_status_of_one=rpc("SystemSharedMemoryStatus", {"name": "out"}),
    grpc_status_of_an_unknown_region=rpc("SystemSharedMemoryStatus", {"name": "zz"}),
    grpc_register_an_object_that_is_not_there=rpc(
        "SystemSharedMemoryRegister", {"name": "none", "key": "/wire-compat-none", "byte_size": 64}
    ),
    grpc_register_again=rpc("SystemSharedMemoryRegister", {"name": "in", "key": IN, "byte_size": 128}),
    grpc_inputs_in_place=called(FIRST),
    grpc_first_input_in_place=called(FIRST, {}, raw=(int32(ONES),)),
    grpc_second_input_in_place=called({}, FIRST, raw=(int32(ONES),)),
    grpc_one_tensor_too_many=called(FIRST, raw=(int32(ONES),)),
    grpc_outputs_in_place=called(
        FIRST, outputs=[output(**ANSWER), output("OUTPUT1", **ANSWER, shared_memory_offset=64)]
    ),
    grpc_one_output_in_place=called(FIRST, outputs=[output(**ANSWER), output("OUTPUT1")]),
    grpc_an_output_too_large_for_its_place=called(FIRST, outputs=[output(**{**ANSWER, "shared_memory_byte_size": 32})]),
    grpc_an_output_beyond_the_end=called(FIRST, outputs=[output(**ANSWER, shared_memory_offset=100)]),
    grpc_an_output_in_an_unknown_region=called(FIRST, outputs=[output(**{**ANSWER, "shared_memory_region": "zz"})]),
    grpc_an_output_without_size=called(FIRST, outputs=[output(**_without(ANSWER, "shared_memory_byte_size"))]),
    grpc_an_output_as_classes=called(FIRST, outputs=[output(**ANSWER, classification=2)]),
    grpc_an_output_with_a_number_for_region=called(FIRST, outputs=[output(**{**ANSWER, "shared_memory_region": 5})]),
    grpc_an_output_with_text_for_a_size=called(FIRST, outputs=[output(**{**ANSWER, "shared_memory_byte_size": "5"})]),
    grpc_an_output_at_a_negative_offset=called(FIRST, outputs=[output(**ANSWER, shared_memory_offset=-1)]),
    grpc_an_output_without_region=called(FIRST, outputs=[output(shared_memory_byte_size=64)]),
    grpc_an_input_without_size=called(_without(FIRST, "shared_memory_byte_size")),
    grpc_an_input_that_is_too_short=called({**FIRST, "shared_memory_byte_size": 32}),
    grpc_an_input_beyond_the_end=called({**FIRST, "shared_memory_offset": 100}),
    grpc_an_input_far_beyond_the_end=called({**FIRST, "shared_memory_offset": 1000}),
    grpc_an_input_in_an_unknown_region=called({**FIRST, "shared_memory_region": "zz"}),
    grpc_an_input_with_a_number_for_region=called({**FIRST, "shared_memory_region": 3}),
    grpc_an_input_with_text_for_a_size=called({**FIRST, "shared_memory_byte_size": "x"}),
    grpc_an_input_at_a_negative_offset=called({**FIRST, "shared_memory_offset": -1}),
    grpc_an_input_without_region=called({"shared_memory_byte_size": 64}),
    grpc_an_input_in_place_and_as_contents=called(FIRST, contents={"int_contents": COUNT}),
    grpc_unregister_an_unknown_region=rpc("SystemSharedMemoryUnregister", {"name": "zz"}),
    grpc_unregister_one=rpc("SystemSharedMemoryUnregister", {"name": "in"}),
    after_unregistering_one=get(f"{SYSTEM}/status"),
    an_input_in_a_region_that_is_gone=asked(FIRST),
    register_it_anew=register("in", key=IN, byte_size=128),
    a_second_region_of_an_object=register("again", key=IN, offset=64, byte_size=64),
    unregister_an_unknown_region=post(f"{SYSTEM}/region/zz/unregister"),
    unregister_one=post(f"{SYSTEM}/region/in/unregister"),
    unregister_all=post(f"{SYSTEM}/unregister"),
    grpc_unregister_all=rpc("SystemSharedMemoryUnregister", {}),
    nothing_left=get(f"{SYSTEM}/status"),
    cuda_status=get(f"{CUDA}/status"),
    cuda_status_of_an_unknown_region=get(f"{CUDA}/region/z/status"),
    cuda_register_what_is_no_handle=post(
        f"{CUDA}/region/z/register", {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 64}
    ),
    cuda_register_without_handle=post(f"{CUDA}/region/z/register", {}),
    cuda_register_without_a_device=cuda_register(byte_size=64),
    cuda_register_a_handle=cuda_register(device_id=0, byte_size=64),
    cuda_register_with_text_for_a_handle=cuda_register(raw_handle=HANDLE, device_id=0, byte_size=64),
    cuda_register_with_a_number_for_a_handle=cuda_register(raw_handle={"b64": 5}, device_id=0, byte_size=64),
    cuda_register_what_is_no_base64=cuda_register(raw_handle={"b64": "*" * 88}, device_id=0, byte_size=64),
    cuda_register_without_size=cuda_register(device_id=0),
    cuda_register_with_nothing_but_a_handle=cuda_register(),
    cuda_register_text_for_a_size=cuda_register(device_id=0, byte_size="64"),
    cuda_register_a_negative_size=cuda_register(device_id=0, byte_size=-1),
    cuda_register_text_for_a_device=cuda_register(device_id="0", byte_size=64),
    cuda_register_a_device_that_is_not_there=cuda_register(device_id=7, byte_size=64),
    cuda_register_a_negative_device=cuda_register(device_id=-1, byte_size=64),
    cuda_register_without_a_name=post(f"{CUDA}/register", {"raw_handle": {"b64": HANDLE}}),
    cuda_register_what_is_no_json=post(f"{CUDA}/region/z/register", "{"),
    cuda_unregister=post(f"{CUDA}/region/z/unregister"),
    cuda_unregister_all=post(f"{CUDA}/unregister"),
    grpc_cuda_status=rpc("CudaSharedMemoryStatus", {}),
    grpc_cuda_status_of_an_unknown_region=rpc("CudaSharedMemoryStatus", {"name": "z"}),
    grpc_cuda_register=rpc(
        "CudaSharedMemoryRegister", {"name": "z", "raw_handle": HANDLE, "device_id": 0, "byte_size": 64}
    ),
    grpc_cuda_register_what_is_no_handle=rpc("CudaSharedMemoryRegister", {"name": "z", "raw_handle": "AAAA"}),
    grpc_cuda_register_nothing=rpc("CudaSharedMemoryRegister", {}),
    grpc_cuda_unregister=rpc("CudaSharedMemoryUnregister", {}),
    cuda_status_after_all=get(f"{CUDA}/status"),
)

SCENARIOS = HTTP + GRPC
