"""Requests that take turns: each is given its place among how many, and answers three times, never twice in a row.

None is answered to its end unless all of them are executed at the same time.
"""

import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.turn = 0

    async def execute(self, requests):
        await asyncio.gather(*(self.answer(request) for request in requests))

    async def answer(self, request):
        place, places = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy().tolist()
        sender = request.get_response_sender()
        for round_ in range(3):
            while self.turn % places != place:
                await asyncio.sleep(0.001)
            value = np.array([10 * place + round_], dtype=np.int32)
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)]))
            self.turn += 1
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
