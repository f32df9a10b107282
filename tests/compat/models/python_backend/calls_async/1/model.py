"""Makes all the calls of its input at once, each "MODEL NUMBER ...", in an `async def execute`."""

import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        return [await self.answer(request) for request in requests]

    async def answer(self, request):
        calls = pb_utils.get_input_tensor_by_name(request, "CALLS").as_numpy()
        answers = await asyncio.gather(*(self.call(call.decode()) for call in calls))
        return pb_utils.InferenceResponse([pb_utils.Tensor("ANSWERS", np.array(answers, dtype=np.object_))])

    async def call(self, call):
        model, _, numbers = call.partition(" ")
        values = np.array([int(number) for number in numbers.split()], dtype=np.int32)
        request = pb_utils.InferenceRequest(
            model_name=model, inputs=[pb_utils.Tensor("IN", values)], requested_output_names=["OUT"]
        )
        if model == "repeat":
            return " ".join([self.told(response) for response in await request.async_exec(decoupled=True)])
        return self.told(await request.async_exec())

    def told(self, response):
        if response.has_error():
            return response.error().message()
        return str([tensor.as_numpy().tolist() for tensor in response.output_tensors()])
