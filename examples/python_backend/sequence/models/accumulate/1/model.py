"""Adds up the numbers of each sequence. The server says where a sequence starts and ends, and which one it is."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            number, start, end, sequence = (
                int(pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0])
                for name in ("NUMBER", "START", "END", "CORRELATION_ID")
            )
            total = number if start else self.sums[sequence] + number
            self.sums[sequence] = total
            if end:
                del self.sums[sequence]
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("SUM", np.array([[total]], dtype=np.int32))]))
        return responses
