"""Answers each of its numbers with a response of its own, from a thread, after `execute` has returned."""

import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            numbers = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy().tolist()
            threading.Thread(target=self.answer, args=(request.get_response_sender(), numbers)).start()

    def answer(self, sender, numbers):
        time.sleep(2 if -5 in numbers else 0.1)
        for number in numbers:
            if number == -2:
                sender.send(self.response(number), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                return
            if number == -1:
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("no minus one")))
            else:
                sender.send(self.response(number))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def response(self, number):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([number], dtype=np.int32))])
