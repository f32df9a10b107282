"""Answers each of its numbers with a response of its own: -1 an error, -2 the last response at once, -3 raises.

-4 is answered with a response of no tensors. A number n of 100 and more is answered with the two numbers n and 7.
"""

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            self.answer(request)

    def answer(self, request):
        sender = request.get_response_sender()
        for number in pb_utils.get_input_tensor_by_name(request, "IN").as_numpy():
            if number == -3:
                raise ValueError("no minus three")
            if number == -2:
                sender.send(self.response([number]), flags=FINAL)
                return
            if number == -1:
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("no minus one")))
            elif number == -4:
                sender.send(pb_utils.InferenceResponse([]))
            else:
                sender.send(self.response([number, 7] if number >= 100 else [number]))
        sender.send(flags=FINAL)

    def response(self, numbers):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array(numbers, dtype=np.int32))])
