"""Adds and subtracts two BYTES tensors whose elements spell integers."""

import numpy as np
import triton_python_backend_utils as pb_utils


def integers(request, name):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy().astype(bytes).astype(np.int32)


def strings(values):
    return np.array([str(value).encode() for value in values.flatten()], dtype=np.object_).reshape(values.shape)


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            first, second = integers(request, "INPUT0"), integers(request, "INPUT1")
            outputs = [
                pb_utils.Tensor("OUTPUT0", strings(first + second)),
                pb_utils.Tensor("OUTPUT1", strings(first - second)),
            ]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses
