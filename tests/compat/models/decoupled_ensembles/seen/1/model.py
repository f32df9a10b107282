"""Tells parameters, id, sequence and flags of its request as text."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        text = f"{request.request_id()} {request.correlation_id()} {request.flags()} {request.parameters()}"
        seen = np.array([len(text)] + [ord(letter) for letter in text], dtype=np.int32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", seen)])
