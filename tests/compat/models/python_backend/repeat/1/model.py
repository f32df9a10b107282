"""Answers each of its numbers with a response of its own: -1 an error, -2 the last response at once, -3 raises."""

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
                sender.send(self.response(number), flags=FINAL)
                return
            if number == -1:
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("no minus one")))
            else:
                sender.send(self.response(number))
        sender.send(flags=FINAL)

    def response(self, number):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([number], dtype=np.int32))])
