"""Answers a number n with n responses of n, on an event loop: requests go on beside each other."""

import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        await asyncio.gather(*(self.answer(request) for request in requests))

    async def answer(self, request):
        sender = request.get_response_sender()
        number = int(pb_utils.get_input_tensor_by_name(request, "NUMBER").as_numpy()[0])
        if number < 0:
            error = pb_utils.TritonError("a negative number of responses", pb_utils.TritonError.INVALID_ARG)
            sender.send(pb_utils.InferenceResponse(error=error), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            return
        for _ in range(number):
            await asyncio.sleep(0)  # others get their turn
            tensor = pb_utils.Tensor("COPY", np.array([number], dtype=np.int32))
            sender.send(pb_utils.InferenceResponse([tensor]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
