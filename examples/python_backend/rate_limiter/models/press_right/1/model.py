"""Holds the press for some milliseconds, and tells from when to when."""

import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            milliseconds = int(pb_utils.get_input_tensor_by_name(request, "MS").as_numpy()[0])
            begin = time.monotonic_ns()
            time.sleep(milliseconds / 1000)
            times = np.array([begin, time.monotonic_ns()], dtype=np.int64)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("TIMES_NS", times)]))
        return responses
