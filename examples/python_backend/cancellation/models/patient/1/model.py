"""Says that it has begun, works for a while, and stops as soon as the client has given up."""

import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.cancelled = 0

    def execute(self, requests):
        for request in requests:
            seconds = float(pb_utils.get_input_tensor_by_name(request, "SECONDS").as_numpy()[0])
            sender = request.get_response_sender()
            count = np.array([self.cancelled], dtype=np.int32)
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("CANCELLED_SO_FAR", count)]))
            self.work(seconds, sender)
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)  # also after a cancellation

    def work(self, seconds, sender):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if sender.is_cancelled():  # `request.is_cancelled()` says the same
                self.cancelled += 1
                return
            time.sleep(0.005)
