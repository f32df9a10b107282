"""Calls another model several times at once, with asyncio."""

import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        return await asyncio.gather(*(self.answer(request) for request in requests))

    async def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        calls = [self.call(x, np.full_like(x, factor)) for factor in x]
        rows = []
        for answer in await asyncio.gather(*calls):
            if answer.has_error():
                return pb_utils.InferenceResponse(error=answer.error())
            rows.append(pb_utils.get_output_tensor_by_name(answer, "PRODUCT").as_numpy())
        return pb_utils.InferenceResponse([pb_utils.Tensor("TABLE", np.stack(rows))])

    async def call(self, a, b):
        call = pb_utils.InferenceRequest(
            model_name="multiply",
            requested_output_names=["PRODUCT"],
            inputs=[pb_utils.Tensor("A", a), pb_utils.Tensor("B", b)],
        )
        return await call.async_exec()
