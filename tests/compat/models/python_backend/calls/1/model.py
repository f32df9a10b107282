"""Calls other models as its input says, and answers what came of each call.

A call is JSON: [method, model, numbers, further arguments of the request]. The method is "exec", "stream" (every
response of a decoupled call), "twice" (the same, read twice), "nested" (another instance makes the call that follows)
or a function of pb_utils, whose arguments follow.
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.name = args["model_instance_name"]
        try:
            self.in_initialize = self.exec("identity", [1])
        except pb_utils.TritonModelException as error:
            self.in_initialize = str(error)

    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "CALLS").as_numpy()) for request in requests]

    def answer(self, calls):
        answers = np.array([json.dumps(self.call(*json.loads(call))) for call in calls], dtype=np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("ANSWERS", answers)])

    def call(self, method, *arguments):
        try:
            if hasattr(self, method):
                return getattr(self, method)(*arguments)
            return getattr(pb_utils, method)(*arguments)
        except Exception as error:
            return f"{type(error).__name__}: {error}".replace(self.name, "me")

    def exec(self, *arguments):
        return told(inference_request(*arguments).exec())

    def stream(self, *arguments):
        return [told(response) for response in inference_request(*arguments).exec(decoupled=True)]

    def twice(self, *arguments):
        responses = inference_request(*arguments).exec(decoupled=True)
        return [[told(response) for response in responses] for _ in range(2)]

    def nested(self, *call):
        """What another instance of this model answers, which makes the call."""
        tensors = [pb_utils.Tensor("CALLS", np.array([json.dumps(call)], dtype=np.object_))]
        request = pb_utils.InferenceRequest(model_name="calls", inputs=tensors, requested_output_names=["ANSWERS"])
        response = request.exec()
        return response.error().message() if response.has_error() else json.loads(answers_of(response)[0])

    def initialized(self):
        return self.in_initialize


def inference_request(model, numbers, inputs="IN", outputs=("OUT",), **fields):
    tensors = [pb_utils.Tensor(inputs, np.array(numbers, dtype=np.int32))]
    return pb_utils.InferenceRequest(model_name=model, inputs=tensors, requested_output_names=list(outputs), **fields)


def answers_of(response):
    return pb_utils.get_output_tensor_by_name(response, "ANSWERS").as_numpy()


def told(response):
    if response.has_error():
        return response.error().message().split("\n\nAt:")[0]
    return {tensor.name(): tensor.as_numpy().tolist() for tensor in response.output_tensors()}
