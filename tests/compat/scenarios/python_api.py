"""`triton_python_backend_utils`, member by member: expressions that a model evaluates, and what it says of each."""

from __future__ import annotations

from typing import Any

from ..messages import HttpRequest, Scenario
from .build import infer, scenarios, tensor

NEW = "pb_utils.InferenceRequest(model_name='nope', inputs=[], requested_output_names=['B']"
TENSOR = "pb_utils.Tensor('A', np.array([1, 2], dtype=np.float32))"
FAMILY = "pb_utils.MetricFamily('api_{}', 'd', pb_utils.MetricFamily.{})"


def evaluate(*codes: str, **top: Any) -> HttpRequest:
    return infer("evaluate", {"inputs": [tensor("CODE", "BYTES", [len(codes)], list(codes))], **top})


def awaited(*lines: str) -> str:
    """An expression of what a coroutine returns."""
    body = "\n    ".join(lines)
    return f"import asyncio\nasync def body():\n    {body}\nasyncio.run(body())"


API: list[Scenario] = scenarios(
    arguments=evaluate(
        "sorted(args)",
        "[args[key] for key in sorted(args) if key not in ('model_config', 'model_repository')]",
        "args['model_repository'].rsplit('/', 1)[1]",
        "pb_utils.get_model_dir().rsplit('/', 2)[1:]",
        "sorted(json.loads(args['model_config']))",
        "json.loads(args['model_config'])['input'][0]",
        "json.loads(args['model_config'])['parameters']",
        "import sys\nsys.argv",
        "pb_utils.__name__",
        "import importlib\nimportlib.import_module('model').TritonPythonModel.__name__",
    ),
    constants=evaluate(
        "[pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END]",
        "[pb_utils.TRITONSERVER_REQUEST_RELEASE_ALL, pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE]",
        "pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL",
        "[pb_utils.TRITONSERVER_MEMORY_CPU, pb_utils.TRITONSERVER_MEMORY_GPU]",
        "str(pb_utils.TRITONSERVER_MEMORY_CPU)",
        "[pb_utils.Logger.WARNING, pb_utils.MetricFamily.GAUGE]",
        "[int(pb_utils.Logger.VERBOSE), int(pb_utils.MetricFamily.HISTOGRAM), pb_utils.MetricFamily.COUNTER == 0]",
        "f'{pb_utils.MetricFamily.GAUGE} {pb_utils.Logger.INFO}'",
    ),
    tensors=evaluate(
        f"{TENSOR}.name()",
        f"{TENSOR}.shape()",
        f"{TENSOR}.is_cpu()",
        f"{TENSOR}.as_numpy().tolist()",
        f"{TENSOR}.__dlpack_device__()",
        f"np.from_dlpack({TENSOR}).tolist()",
        f"pb_utils.Tensor.from_dlpack('B', {TENSOR}.to_dlpack()).as_numpy().tolist()",
        f"type({TENSOR}.to_dlpack()).__name__",
        "pb_utils.Tensor('A', np.array(5, dtype=np.float32)).shape()",
        "pb_utils.Tensor('A', np.zeros((2, 3), dtype=np.float32).T).as_numpy().flags.c_contiguous",
        "pb_utils.Tensor('A', np.array([b'ab', b'c'])).as_numpy().tolist()",
        "pb_utils.Tensor('A', np.zeros(0, dtype=np.float32)).as_numpy().tolist()",
        "x = np.zeros(2)\nt = pb_utils.Tensor('A', x)\nt.as_numpy() is x",
        f"import weakref\nt = {TENSOR}\nweakref.ref(t)() is t",
        "t = pb_utils.Tensor('A', np.zeros(2))\nt.as_numpy()[0] = 5\nt.as_numpy().tolist()",
    ),
    tensors_refused=evaluate(
        "pb_utils.Tensor('', np.zeros(1))",
        "pb_utils.Tensor('A', [1, 2])",
        "pb_utils.Tensor(1, np.zeros(1))",
        "pb_utils.Tensor('A', np.array([1j]))",
        "pb_utils.Tensor('A', np.array(['2020-01-01'], dtype='datetime64[D]'))",
        "pb_utils.Tensor('A', np.array(['ab', 'c']))",
        "pb_utils.Tensor('A', np.zeros(1, dtype='>f4'))",
        "pb_utils.Tensor('A', np.array(['a'], dtype=object)).to_dlpack()",
    ),
    functions=evaluate(
        "pb_utils.get_input_tensor_by_name(request, 'X')",
        "pb_utils.get_input_tensor_by_name(inference_request=request, name='CODE').shape()",
        "pb_utils.get_input_config_by_name(json.loads(args['model_config']), 'CODE')['data_type']",
        "pb_utils.get_input_config_by_name({}, 'CODE')",
        "pb_utils.get_output_config_by_name(model_config={'output': [{'name': 'A'}]}, name='A')",
        "pb_utils.using_decoupled_model_transaction_policy({'model_transaction_policy': {'decoupled': True}})",
        "pb_utils.triton_string_to_numpy('FP16')",
        "pb_utils.triton_string_to_numpy('TYPE_BF16')",
        "[pb_utils.numpy_to_triton_type(t) for t in (np.bool_, bool, np.int64, float, np.object_, object, np.bytes_)]",
        "pb_utils.serialize_byte_tensor(np.array(['a', b'bc', 5], dtype=object))",
        "pb_utils.serialize_byte_tensor(np.array(['a']))",
        "pb_utils.deserialize_bytes_tensor(b'\\x01\\x00\\x00\\x00a\\x00\\x00\\x00\\x00').tolist()",
    ),
    errors=evaluate(
        "pb_utils.TritonError('m').message()",
        "pb_utils.TritonError('m').code() == pb_utils.TritonError.INTERNAL",
        "pb_utils.TritonError(message='m', code=pb_utils.TritonError.UNKNOWN).code().name",
        "int(pb_utils.TritonError.UNSUPPORTED)",
        "pb_utils.TritonError(5)",
        "pb_utils.TritonError()",
        "pb_utils.TritonModelException('a', 'b').args",
        "isinstance(pb_utils.TritonModelException('x'), RuntimeError)",
    ),
    responses=evaluate(
        "pb_utils.InferenceResponse().has_error()",
        "pb_utils.InferenceResponse(output_tensors=[]).output_tensors()",
        "pb_utils.InferenceResponse([]).error()",
        "pb_utils.InferenceResponse(error=pb_utils.TritonError('m')).error().message()",
        f"len(pb_utils.InferenceResponse([{TENSOR}], pb_utils.TritonError('m')).output_tensors())",
        f"pb_utils.InferenceResponse(({TENSOR},)).output_tensors()[0].name()",
        f"pb_utils.get_output_tensor_by_name(pb_utils.InferenceResponse([{TENSOR}]), 'A').name()",
        "pb_utils.get_output_tensor_by_name(pb_utils.InferenceResponse([]), 'A')",
        "pb_utils.InferenceResponse([None])",
        "pb_utils.InferenceResponse([5])",
        "pb_utils.InferenceResponse(None)",
        "pb_utils.InferenceResponse([], error='text')",
    ),
    request=evaluate(
        "request.request_id()",
        "request.correlation_id()",
        "request.flags()",
        "request.timeout()",
        "request.parameters()",
        "sorted(request.requested_output_names())",
        "request.trace().get_context()",
        "request.is_cancelled()",
        "[tensor.name() for tensor in request.inputs()]",
        "request.inputs()[0] is request.inputs()[0]",
        "request.set_flags(3)\nrequest.flags()",
        "request.set_flags('a')",
        "request.set_release_flags(1)",
        "import weakref\nweakref.ref(request)() is request",
        id="me",
        outputs=[{"name": "SAID"}],
        parameters={"a": 1, "b": "x", "c": True, "sequence_id": 7, "sequence_start": True, "timeout": 5000000},
    ),
    requests_made=evaluate(
        f"{NEW}).request_id()",
        f"{NEW}).inputs()",
        f"{NEW}, correlation_id='abc').correlation_id()",
        f"{NEW}, parameters={{'a': 1, 'b': 'x', 'c': True}}).parameters()",
        f"{NEW}, parameters={{}}).parameters()",
        f"{NEW}, trace=request.trace()).trace().get_context()",
        "pb_utils.InferenceRequest('i', 5, [], ['B'], 'm', 2, 1, 9).correlation_id()",
        "pb_utils.InferenceRequest('i', 5, [], ['B'], 'm', 2, 1, 9).timeout()",
        "pb_utils.InferenceRequest('i', 5, [], ['B'], 'm', 2, 1, 9).flags()",
    ),
    requests_refused=evaluate(
        "pb_utils.InferenceRequest(requested_output_names=['B'], model_name='m')",
        "pb_utils.InferenceRequest(inputs=[], model_name='m')",
        "pb_utils.InferenceRequest(inputs=[], requested_output_names=[])",
        "pb_utils.InferenceRequest(inputs=[None], requested_output_names=[], model_name='m')",
        "pb_utils.InferenceRequest(inputs=[5], requested_output_names=[], model_name='m')",
        "pb_utils.InferenceRequest(inputs=[], requested_output_names='BC', model_name='m')",
        "pb_utils.InferenceRequest(inputs=[], requested_output_names=[5], model_name='m')",
        f"{NEW}, correlation_id=1.5)",
        f"{NEW}, request_id=5)",
        f"{NEW}, model_version='1')",
        f"{NEW}, flags='1')",
        f"{NEW}, timeout=-1)",
        f"{NEW}, timeout=1.5)",
        f"{NEW}, parameters={{'a': [1]}})",
        f"{NEW}, parameters={{1: 1}})",
        f"{NEW}, parameters={{'a': None}})",
        f"{NEW}, preferred_memory=5)",
        f"{NEW}, nonsense=5)",
        "pb_utils.PreferredMemory()",
        "pb_utils.PreferredMemory(1)",
        "pb_utils.PreferredMemory('CPU')",
    ),
    calls=evaluate(
        f"{NEW}).exec().error().message()",
        f"{NEW}, model_version=3).exec().has_error()",
        f"{NEW}).exec().output_tensors()",
        f"[response.has_error() for response in {NEW}).exec(decoupled=True)]",
        f"responses = {NEW}).exec(decoupled=True)\n[next(responses).has_error(), next(responses, 'end')]",
        f"{NEW}).async_exec()",
    ),
    calls_on_an_event_loop=evaluate(
        awaited(f"return asyncio.isfuture({NEW}).async_exec())"),
        awaited(f"call = {NEW}).async_exec()", "return [(await call).has_error(), call.done()]"),
        awaited(f"call = {NEW}).async_exec()", "await asyncio.sleep(0.5)", "return call.done()"),
        awaited(
            f"done, pending = await asyncio.wait([{NEW}).async_exec() for _ in range(2)])",
            "return [call.result().has_error() for call in done]",
        ),
        awaited(f"return (await asyncio.wait_for({NEW}).async_exec(), 60)).has_error()"),
        awaited(
            f"calls = asyncio.as_completed([{NEW}).async_exec() for _ in range(3)])",
            "return [(await call).has_error() for call in calls]",
        ),
        awaited(f"return [each.has_error() for each in await {NEW}).async_exec(decoupled=True)]"),
    ),
    senders=evaluate(
        "request.get_response_sender() is request.get_response_sender()",
        "request.get_response_sender().send()",
        "request.get_response_sender().send(None, 0)",
        "request.get_response_sender().send(5)",
        "request.get_response_sender().send(flags=2)",
        "request.get_response_sender().send(response=None, flags=5)",
        "request.get_response_sender().is_cancelled()",
    ),
    logger=evaluate(
        "pb_utils.Logger.log('told')",
        "pb_utils.Logger.log(message='told', level=pb_utils.Logger.WARNING)",
        "pb_utils.Logger.log_verbose('told')",
        "pb_utils.Logger.log(5)",
        "pb_utils.Logger.log('told', 'INFO')",
        "sorted(name for name in dir(pb_utils.Logger) if name.startswith('log'))",
    ),
    metrics=evaluate(
        f"family = {FAMILY.format('gauge', 'GAUGE')}\nmetric = family.Metric()\nmetric.set(3)\nmetric.value()",
        f"family = {FAMILY.format('gauge_', 'GAUGE')}\nmetric = family.Metric(labels={{'a': 'b'}})\n"
        "metric.increment(-2)\nmetric.value()",
        f"family = {FAMILY.format('count', 'COUNTER')}\nmetric = family.Metric()\n"
        "metric.increment(2.5)\nmetric.increment(1)\nmetric.value()",
        f"family = {FAMILY.format('times', 'HISTOGRAM')}\nfamily.Metric(buckets=[1, 2]).observe(1)",
        f"family = {FAMILY.format('times', 'HISTOGRAM')}\nfamily.Metric()",
        f"family = {FAMILY.format('gauge', 'GAUGE')}\nfamily.Metric(buckets=[1])",
        f"family = {FAMILY.format('gauge', 'GAUGE')}\nfamily.Metric(labels=[('a', 'b')])",
        f"family = {FAMILY.format('gauge', 'GAUGE')}\nfamily.Metric().set('a')",
        f"family = {FAMILY.format('gauge', 'GAUGE')}\nfamily.Metric().increment()",
        "pb_utils.MetricFamily('api_x', 'd')",
        "pb_utils.MetricFamily('api_x', 'd', 'COUNTER')",
        "pb_utils.MetricFamily(5, 'd', pb_utils.MetricFamily.COUNTER)",
        "pb_utils.MetricFamily('api_x', 5, pb_utils.MetricFamily.COUNTER)",
    ),
    model_control_refused=evaluate(
        "pb_utils.load_model('nope')",
        "pb_utils.load_model('nope', files=[1])",
        "pb_utils.load_model('nope', files={'file:1/model.py': 5}, config='{}')",
        "pb_utils.load_model(5)",
        "pb_utils.load_model('nope', 5)",
        "pb_utils.load_model()",
        "pb_utils.unload_model()",
        "pb_utils.is_model_ready(5)",
        "pb_utils.is_model_ready('evaluate', 1)",
        "pb_utils.is_model_ready('evaluate', '9')",
    ),
)


def classified(model: str, output: str) -> HttpRequest:
    outputs = [{"name": output, "parameters": {"classification": 3}}]
    return infer(model, {"inputs": [tensor("IN", "INT32", [3], [1, 3, 2])], "outputs": outputs})


LABELS: list[Scenario] = scenarios(
    of_a_model=classified("labelled", "OUT"),
    of_the_model_of_a_step=classified("labels_inherited", "LAST"),
    of_an_ensemble=classified("labels_of_its_own", "LAST"),
    of_the_model_of_a_step_of_a_step=classified("labels_inherited_twice", "LAST"),
)
