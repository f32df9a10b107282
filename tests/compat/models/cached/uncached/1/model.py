"""Answers INPUT0, and in COUNT the number of requests it was asked so far: an answer from a cache does not move it."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.count = 0

    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            self.count += 1
            if values.flat[0] < 0:
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("negative")))
                continue
            outputs = [
                pb_utils.Tensor("OUTPUT0", values),
                pb_utils.Tensor("COUNT", np.full((len(values), 1), self.count, dtype=np.int32)),
            ]
            names = request.requested_output_names()
            responses.append(pb_utils.InferenceResponse([one for one in outputs if one.name() in names]))
        return responses
