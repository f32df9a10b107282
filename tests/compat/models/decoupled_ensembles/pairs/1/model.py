"""Answers each of its numbers with a response: even ones as EVEN, odd ones as ODD, 0 as both."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in pb_utils.get_input_tensor_by_name(request, "IN").as_numpy():
                names = ["EVEN", "ODD"] if number == 0 else [("EVEN", "ODD")[number % 2]]
                tensors = [pb_utils.Tensor(name, np.array([number], dtype=np.int32)) for name in names]
                sender.send(pb_utils.InferenceResponse(tensors))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
