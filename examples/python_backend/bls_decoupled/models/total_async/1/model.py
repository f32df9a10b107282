"""As `total`, with all calls of the decoupled model under way at once."""

import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        responses = []
        for request in requests:
            starts = pb_utils.get_input_tensor_by_name(request, "FROM").as_numpy()
            totals = await asyncio.gather(*(self.total(start) for start in starts))
            tensor = pb_utils.Tensor("TOTAL", np.array(totals, dtype=np.int32))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses

    async def total(self, start):
        call = pb_utils.InferenceRequest(
            model_name="countdown",
            requested_output_names=["NUMBER"],
            inputs=[pb_utils.Tensor("FROM", np.array([start], dtype=np.int32))],
        )
        total = 0
        for response in await call.async_exec(decoupled=True):
            if response.has_error():
                raise pb_utils.TritonModelException(response.error().message())
            if response.output_tensors():
                total += int(pb_utils.get_output_tensor_by_name(response, "NUMBER").as_numpy()[0])
        return total
