"""`triton_python_backend_utils`, member by member, as a model in a child process sees it."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import numpy as np
import pytest

from conch.tensor import DataType, Tensor

from .conftest import Workshop, request, run, tensors_of

#: Expression -> text of its value.
TENSORS = {
    "pb_utils.Tensor('a', np.zeros((2, 3), np.float32)).shape()": "[2, 3]",
    "pb_utils.Tensor('a', np.zeros((), np.float32)).shape()": "[]",
    "pb_utils.Tensor('a', np.zeros(1)).name()": "'a'",
    "pb_utils.Tensor('a', np.zeros(1)).is_cpu()": "True",
    "pb_utils.Tensor('a', np.zeros(1)).triton_dtype()": "'FP64'",
    "pb_utils.Tensor('a', np.array(['x'], dtype=object)).triton_dtype()": "'BYTES'",
    "pb_utils.Tensor('a', np.array([b'a', b'b'])).as_numpy().dtype.str": "'|S1'",
    "pb_utils.Tensor('a', np.zeros((2, 3), np.float32).T).as_numpy().flags.c_contiguous": "True",
    "(lambda t: t.as_numpy() is t.as_numpy())(request.inputs()[0])": "True",
    "request.inputs() is request.inputs()": "True",
    "request.inputs()[0].as_numpy().flags.writeable": "True",
    "type(request.inputs()), type(request.inputs()[0].as_numpy()[0])": "(<class 'list'>, <class 'bytes'>)",
    "pb_utils.Tensor('', np.zeros(3))": "TritonModelException: Tensor name cannot be an empty string.",
    "pb_utils.Tensor(1, np.zeros(3))": "TypeError: Tensor(name: str, array: numpy.ndarray): got int and ndarray",
    "pb_utils.Tensor('a', [1])": "TypeError: Tensor(name: str, array: numpy.ndarray): got str and list",
    "pb_utils.Tensor('a', np.zeros(3, np.complex64))": "TritonModelException: NumPy dtype is not supported.",
    "pb_utils.Tensor('a', np.zeros(2, '>f4'))": "TritonModelException: NumPy dtype is not supported.",
    "pb_utils.Tensor('a', np.array(['u']))": "TritonModelException: NumPy dtype is not supported.",
    "pb_utils.Tensor('a', np.zeros(2)).__dlpack_device__()": "(1, 0)",
    "np.from_dlpack(pb_utils.Tensor('a', np.arange(3))).tolist()": "[0, 1, 2]",
    "pb_utils.Tensor.from_dlpack('a', np.arange(6).reshape(2, 3)).as_numpy().tolist()": "[[0, 1, 2], [3, 4, 5]]",
    "pb_utils.Tensor.from_dlpack('a', pb_utils.Tensor('b', np.arange(3)).to_dlpack()).as_numpy().tolist()": "[0, 1, 2]",
    "pb_utils.Tensor.from_dlpack('a', np.zeros((3, 0), np.int8)).shape()": "[3, 0]",
    "pb_utils.Tensor.from_dlpack('a', np.array(5.0)).as_numpy().item()": "5.0",
    "pb_utils.Tensor('a', np.array(['x'], dtype=object)).to_dlpack()": (
        "TritonModelException: DLPack does not have support for string tensors."
    ),
    "pb_utils.Tensor.from_dlpack('a', np.zeros((2, 3)).T)": (
        "TritonModelException: DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored in "
        "C-Order are supported."
    ),
    "pb_utils.Tensor.from_dlpack('a', np.zeros(2, np.complex64))": (
        "TritonModelException: DLPack dtype with code 5, 64 bits and 1 lanes is not supported"
    ),
    "pb_utils.Tensor.from_dlpack('a', [1])": (
        "TritonModelException: Provided tensor is not supported. Tensor must be a DLPack capsule or have `__dlpack__` "
        "and `__dlpack_device__` attributes; got list"
    ),
}

RESPONSES = {
    "pb_utils.InferenceResponse([]).has_error()": "False",
    "pb_utils.InferenceResponse([]).error()": "None",
    "pb_utils.InferenceResponse().output_tensors()": "[]",
    "pb_utils.InferenceResponse(error=pb_utils.TritonError('e')).has_error()": "True",
    "[each.name() for each in pb_utils.InferenceResponse([pb_utils.Tensor('a', np.zeros(1))], "
    "pb_utils.TritonError('e')).output_tensors()]": "['a']",
    "len(pb_utils.InferenceResponse(iter([pb_utils.Tensor('a', np.zeros(1))])).output_tensors())": "1",
    "pb_utils.InferenceResponse([None])": (
        "TritonModelException: Output tensor for inference response should not be empty."
    ),
    "str(pb_utils.TritonError.NOT_FOUND), f'{pb_utils.TritonError.NOT_FOUND}'": (
        "('ErrorCode.NOT_FOUND', 'ErrorCode.NOT_FOUND')"
    ),
    "pb_utils.InferenceResponse([], parameters={'a': 1}).parameters()": """'{"a": 1}'""",
    "pb_utils.InferenceResponse([], parameters={'a': [1]})": (
        "TritonModelException: Expect parameters values to have type bool/int/str, found type <class 'list'>"
    ),
    "pb_utils.InferenceResponse([3])": "TypeError: InferenceResponse: output_tensors must be Tensors, got int",
    "pb_utils.InferenceResponse([], error='x')": "TypeError: InferenceResponse: error must be a TritonError, got str",
    "pb_utils.TritonError('x').code() == pb_utils.TritonError.INTERNAL": "True",
    "pb_utils.TritonError('x', pb_utils.TritonError.UNAVAILABLE).code().name": "'UNAVAILABLE'",
    "pb_utils.TritonError('x').message()": "'x'",
    "pb_utils.TritonError(5)": "TypeError: TritonError: message must be a str, got 5",
    "issubclass(pb_utils.TritonModelException, Exception)": "True",
    "pb_utils.get_output_tensor_by_name(pb_utils.InferenceResponse([]), 'a')": "None",
    "pb_utils.get_output_tensor_by_name(pb_utils.InferenceResponse([pb_utils.Tensor('a', np.zeros(1))]), 'a').name()": (
        "'a'"
    ),
}

NEW = "pb_utils.InferenceRequest(model_name='m', inputs=[], requested_output_names=['x']"
REQUESTS = {
    NEW + ").flags()": "0",
    NEW + ").timeout()": "0",
    NEW + ").request_id()": "''",
    NEW + ").is_cancelled()": "False",
    NEW + ").requested_output_names()": "{'x'}",
    NEW + ", correlation_id='abc').correlation_id()": "'abc'",
    NEW + ", correlation_id=1.5)": "TritonModelException: Correlation ID must be integer or string",
    NEW + ", flags=pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END).flags()": "2",
    NEW + ", parameters={'a': 1, 'b': True}).parameters()": """'{"a": 1, "b": true}'""",
    NEW + ", parameters='a')": "TritonModelException: Expect parameters to be a dict, got <class 'str'>",
    NEW
    + ", parameters={1: 2})": "TritonModelException: Expect parameters keys to have type str, found type <class 'int'>",
    NEW + ", preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_GPU, 1))"
    ".preferred_memory().preferred_device_id": "1",
    NEW + ", trace=request.trace()).trace().get_context()": "None",
    "pb_utils.InferenceRequest('id', 7, [pb_utils.Tensor('a', np.zeros(1))], ['o'], 'm', 2).inputs()[0].name()": "'a'",
    "pb_utils.InferenceRequest(inputs=[], requested_output_names=['x'])": (
        "TypeError: InferenceRequest: inputs, requested_output_names and model_name must be given"
    ),
    "pb_utils.InferenceRequest(model_name='m', inputs=[None], requested_output_names=[])": (
        "TritonModelException: Input tensor for request with id '' and model name 'm' should not be empty."
    ),
    "pb_utils.InferenceRequest(model_name='m', inputs=[5], requested_output_names=[])": (
        "TypeError: InferenceRequest: inputs must be a list of Tensor, got a int"
    ),
    "pb_utils.InferenceRequest(model_name='m', inputs=[], requested_output_names='xy')": (
        "TypeError: InferenceRequest: requested_output_names must be a list of str"
    ),
    NEW + ", timeout=-1)": "TypeError: InferenceRequest: timeout must be an integer, not negative; got -1",
    NEW + ", request_id=5)": "TypeError: InferenceRequest: request_id must be a str, got int",
    NEW + ", correlation_id=-1)": (
        "TritonModelException: Correlation ID must be an unsigned integer of 64 bits, got -1"
    ),
    "pb_utils.PreferredMemory(1)": (
        "TypeError: PreferredMemory: preferred_memory_type must be TRITONSERVER_MEMORY_CPU or _GPU, got 1"
    ),
    "request.set_flags('a')": "TypeError: set_flags: flags must be an integer, got str",
    "request.is_cancelled()": "False",
    "request.set_flags(3), request.flags()": "(None, 3)",
    "request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_ALL)": "None",
    "request.preferred_memory().preferred_memory_type == pb_utils.TRITONSERVER_MEMORY_CPU": "True",
    "pb_utils.get_input_tensor_by_name(request, 'CODE') is request.inputs()[0]": "True",
    "pb_utils.get_input_tensor_by_name(request, 'NOPE')": "None",
}

FUNCTIONS = {
    "pb_utils.triton_string_to_numpy('TYPE_FP16') is np.float16": "True",
    "pb_utils.triton_string_to_numpy('TYPE_STRING') is np.object_": "True",
    "pb_utils.TRITON_STRING_TO_NUMPY['TYPE_BOOL']": "<class 'bool'>",
    "sorted(pb_utils.TRITON_STRING_TO_NUMPY)[:3]": "['TYPE_BOOL', 'TYPE_FP16', 'TYPE_FP32']",
    "pb_utils.triton_string_to_numpy('TYPE_NOPE')": "KeyError: 'TYPE_NOPE'",
    "[pb_utils.triton_to_numpy_type(n) for n in (1, 11, 13, 14)]": (
        "[<class 'numpy.bool'>, <class 'numpy.float32'>, <class 'numpy.object_'>, None]"
    ),
    "[pb_utils.numpy_to_triton_type(t) for t in (np.bool_, np.int64, np.object_, np.bytes_, np.complex64)]": (
        "[1, 9, 13, 13, None]"
    ),
    "pb_utils.serialize_byte_tensor(np.array([b'a', 'b', 3], dtype=object))": (
        repr(b"\x01\x00\x00\x00a\x01\x00\x00\x00b\x01\x00\x00\x003")
    ),
    "pb_utils.serialize_byte_tensor(np.zeros(0, object)), pb_utils.serialize_byte_tensor(np.zeros(1))": "((), None)",
    "pb_utils.deserialize_bytes_tensor(pb_utils.serialize_byte_tensor(np.array([b'', b'ab'], object))).tolist()": (
        "[b'', b'ab']"
    ),
    "pb_utils.get_input_config_by_name(json.loads(args['model_config']), 'CODE')['data_type']": "'TYPE_STRING'",
    "pb_utils.get_output_config_by_name(json.loads(args['model_config']), 'NOPE')": "None",
    "pb_utils.using_decoupled_model_transaction_policy({'model_transaction_policy': {'decoupled': True}})": "True",
    "pb_utils.using_decoupled_model_transaction_policy({})": "False",
    "__import__('c_python_backend_utils') is pb_utils": "True",
    "pb_utils.InferenceResponse": "<class 'c_python_backend_utils.InferenceResponse'>",
    "__import__('pickle').loads(__import__('pickle').dumps(pb_utils.TritonModelException('x')))": (
        "TritonModelException('x')"
    ),
    "[pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END]": "[1, 2]",
    "[pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL, pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE]": "[1, 2]",
    "[name for name in pb_utils.__all__ if not hasattr(pb_utils, name)]": "[]",
}


@pytest.mark.parametrize(
    "table", [TENSORS, RESPONSES, REQUESTS, FUNCTIONS], ids=["tensors", "responses", "requests", "functions"]
)
def test_members_answer_as_on_triton(workshop: Workshop, table: dict[str, str]) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            assert {code: await evaluate(code) for code in table} == table

    run(body())


def test_dlpack_memory_is_given_back_to_its_producer(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            answer = "answer = [pb_utils.InferenceResponse([])]"
            await evaluate.run(
                "!import weakref, gc\nclass Source(np.ndarray): pass\n"
                "source = np.arange(5).view(Source)\nalive = weakref.ref(source)\n"
                f"tensor = pb_utils.Tensor.from_dlpack('a', source)\ndel source\n{answer}"
            )
            assert await evaluate("tensor.as_numpy().tolist(), alive() is not None") == "([0, 1, 2, 3, 4], True)"
            await evaluate.run(f"!del tensor\ngc.collect()\n{answer}")
            assert await evaluate("alive()") == "None"
            exported = "sys.modules['conch_stub.dlpack']._exported"
            capsules = "[pb_utils.Tensor('a', np.zeros(3)).to_dlpack() for _ in range(9)]"
            assert await evaluate(f"(lambda capsules: len({exported}))({capsules})") == "9"
            assert await evaluate(f"len({exported})") == "0", "capsules nobody consumed"

    run(body())


def test_bf16_has_no_numpy_form_but_travels_through_dlpack(workshop: Workshop) -> None:
    pytest.importorskip("torch")
    source = """
import torch
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = request.inputs()[0]
            try:
                tensor.as_numpy()
            except pb_utils.TritonModelException as error:
                text = str(error)
            values = torch.from_dlpack(tensor)
            assert values.dtype == torch.bfloat16, values.dtype
            values = values * 2
            outputs = [
                pb_utils.Tensor.from_dlpack("OUTPUT0", values),
                pb_utils.Tensor.from_dlpack("CAPSULE", torch.utils.dlpack.to_dlpack(values)),
                pb_utils.Tensor.from_dlpack("WIDE", values.float()),
                pb_utils.Tensor.from_dlpack("BOOL", values > 3),
            ]
            assert "use to_dlpack() and from_dlpack()" in text.lower()
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
"""

    async def body() -> None:
        bits = (np.array([1.0, 2.0, -3.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
        sent = Tensor("INPUT0", DataType.BF16, (1, 3), bits.tobytes())
        async with workshop.instance(source) as instance:
            result = await instance.execute([request(sent)])
            doubled, capsule, wide, over_three = tensors_of(result)
            assert (doubled.datatype, doubled.shape) == (DataType.BF16, (1, 3))
            as_float = (doubled.as_numpy().astype(np.uint32) << 16).view(np.float32)
            assert as_float.tolist() == [[2, 4, -6]]
            assert bytes(capsule.data) == bytes(doubled.data)
            assert wide.as_numpy().tolist() == [[2, 4, -6]]
            assert (over_three.datatype, over_three.as_numpy().tolist()) == (DataType.BOOL, [[False, True, False]])

    run(body())


def test_initialize_gets_the_arguments_triton_gives(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.evaluator('parameters { key: "p" value { string_value: "v" } }') as evaluate:
            args = ast.literal_eval(await evaluate("model.args"))
            config = json.loads(args.pop("model_config"))
            assert args == {
                "model_instance_kind": "CPU",
                "model_instance_name": "m_0_0",
                "model_instance_device_id": "0",
                "model_repository": str(workshop.root / "m"),
                "model_version": "1",
                "model_name": "m",
            }
            assert config["parameters"] == {"p": {"string_value": "v"}}
            assert config["input"][0] == {
                "name": "CODE",
                "data_type": "TYPE_STRING",
                "format": "FORMAT_NONE",
                "dims": [1],
                "is_shape_tensor": False,
                "allow_ragged_batch": False,
                "optional": False,
                "is_non_linear_format_io": False,
            }

    run(body())


def test_the_process_looks_as_on_triton(workshop: Workshop) -> None:
    async def body() -> None:
        directory = workshop.root / "m"
        directory.mkdir()
        (directory / "beside.py").write_text("WHERE = 'beside the versions'")
        (directory / "1").mkdir()
        (directory / "1" / "within.py").write_text("WHERE = 'within the version'")
        async with workshop.evaluator() as evaluate:
            assert await evaluate("sys.argv") == "['']"
            assert await evaluate("sys.path[0]") == "''"
            assert await evaluate("sys.path[-3:-1]") == repr([str(directory / "1"), str(directory)])
            assert await evaluate("os.getcwd()") == repr(str(Path.cwd()))
            assert await evaluate("pb_utils.get_model_dir()") == repr(str(directory / "1"))
            assert await evaluate("sys.modules['model'].TritonPythonModel is type(model)") == "True"
            assert await evaluate("__import__('beside').WHERE") == "'beside the versions'"
            assert await evaluate("__import__('within').WHERE") == "'within the version'"
            assert await evaluate("[name for name in sys.modules if name.split('.')[0] == 'conch']") == "[]"
            await evaluate("os.environ.update(ONLY_HERE='1')")
            assert "ONLY_HERE" not in os.environ

    run(body())


def test_unittest_main_runs_the_module_named_model(workshop: Workshop) -> None:
    source = """
import unittest
import numpy as np
import triton_python_backend_utils as pb_utils

class PbTest(unittest.TestCase):
    def test_it(self):
        self.assertEqual(pb_utils.triton_string_to_numpy("TYPE_INT8"), np.int8)

class TritonPythonModel:
    def execute(self, requests):
        test = unittest.main("model", exit=False)
        passed = np.array([test.result.testsRun, test.result.wasSuccessful()])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", passed)]) for _ in requests]
"""

    async def body() -> None:
        async with workshop.instance(source) as instance:
            result = await instance.execute([request(Tensor("INPUT0", DataType.FP32, (1,), bytes(4)))])
            assert tensors_of(result)[0].as_numpy().tolist() == [1, 1]

    run(body())


def test_worker_processes_of_a_model_can_import_the_api(workshop: Workshop) -> None:
    async def body() -> None:
        async with workshop.evaluator() as evaluate:
            program = "import triton_python_backend_utils as u; print(u.numpy_to_triton_type(u.np.int8))"
            environment = "{**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}"
            text = await evaluate(
                f"__import__('subprocess').check_output([sys.executable, '-c', {program!r}], env={environment})"
            )
            assert text == repr(b"6\n")

    run(body())
