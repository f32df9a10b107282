"""Answers which inputs came, in which shape, with which values, and the parameters of the request."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(self.outputs(request)) for request in requests]

    def outputs(self, request):
        inputs = sorted(request.inputs(), key=lambda tensor: tensor.name())
        shapes = [f"{tensor.name()} {list(tensor.as_numpy().shape)} {tensor.as_numpy().dtype}" for tensor in inputs]
        words = [repr(tensor.as_numpy().tolist()) for tensor in inputs if tensor.as_numpy().dtype == np.object_]
        numeric = [tensor for tensor in inputs if tensor.as_numpy().dtype != np.object_]
        numbers = [tensor.as_numpy().astype(np.float64).reshape(-1) for tensor in numeric]
        parameters = json.dumps(json.loads(request.parameters() or "null"), sort_keys=True)
        return [
            pb_utils.Tensor("SHAPES", np.array([text.encode() for text in shapes + words], dtype=np.object_)),
            pb_utils.Tensor("PARAMETERS", np.array([parameters.encode()], dtype=np.object_)),
            pb_utils.Tensor("ECHO", np.concatenate([*numbers, np.zeros(0)])),
        ]
