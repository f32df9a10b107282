"""Answers with one response for each element of the input, from threads of its own, after `execute` has returned."""

import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.threads = []

    def execute(self, requests):
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "VALUES").as_numpy().copy()
            pause_s = float(pb_utils.get_input_tensor_by_name(request, "PAUSE_MS").as_numpy()[0]) / 1000
            thread = threading.Thread(target=self.send, args=(request.get_response_sender(), values, pause_s))
            self.threads = [each for each in self.threads if each.is_alive()] + [thread]
            thread.start()

    def send(self, sender, values, pause_s):
        for index, value in enumerate(values):
            time.sleep(pause_s)
            outputs = [
                pb_utils.Tensor("VALUE", np.array([value], dtype=np.int32)),
                pb_utils.Tensor("INDEX", np.array([index], dtype=np.uint32)),
            ]
            sender.send(pb_utils.InferenceResponse(outputs))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finalize(self):
        for thread in self.threads:
            thread.join()
