"""Answers COUNT times, with an error in place of the answer FAIL_AT; the last response carries nothing but the end.

A COUNT of -1 is one answer that is the last one, too.
"""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            self.answer(request)

    def answer(self, request):
        prompt = pb_utils.get_input_tensor_by_name(request, "PROMPT").as_numpy()
        count = int(pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy()[0])
        failing = pb_utils.get_input_tensor_by_name(request, "FAIL_AT")
        fail_at = -1 if failing is None else int(failing.as_numpy()[0])
        sender = request.get_response_sender()
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        if count == -1:
            sender.send(self.response(prompt, 0, fail_at), flags=final)
            return
        for index in range(count):
            sender.send(self.response(prompt, index, fail_at))
        sender.send(flags=final)

    def response(self, prompt, index, fail_at):
        if index == fail_at:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"failed at {index}"))
        tensors = [pb_utils.Tensor("TEXT", prompt), pb_utils.Tensor("INDEX", np.array([index], dtype=np.int32))]
        return pb_utils.InferenceResponse(tensors)
