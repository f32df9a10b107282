"""Answers scores as floats, as truncated integers and as text; the last class has no label."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            scores = pb_utils.get_input_tensor_by_name(request, "SCORES").as_numpy()
            text = np.array([[str(score).encode() for score in row] for row in scores], dtype=np.object_)
            outputs = [
                pb_utils.Tensor("LABELLED", scores),
                pb_utils.Tensor("PLAIN", scores),
                pb_utils.Tensor("WHOLE", scores.astype(np.int32)),
                pb_utils.Tensor("TEXT", text),
            ]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
