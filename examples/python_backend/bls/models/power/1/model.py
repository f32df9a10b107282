"""Calls another model as often as the input says: a loop, which no ensemble has."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "X")
        exponent = int(pb_utils.get_input_tensor_by_name(request, "EXPONENT").as_numpy()[0])
        if exponent < 1:
            error = pb_utils.TritonError("EXPONENT must be positive", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=error)
        power = pb_utils.Tensor("A", x.as_numpy())
        for _ in range(exponent - 1):
            call = pb_utils.InferenceRequest(
                model_name="multiply",
                requested_output_names=["PRODUCT"],
                inputs=[power, pb_utils.Tensor("B", x.as_numpy())],
            )
            answer = call.exec()
            if answer.has_error():
                return pb_utils.InferenceResponse(error=answer.error())
            product = pb_utils.get_output_tensor_by_name(answer, "PRODUCT")
            power = pb_utils.Tensor("A", product.as_numpy())
        return pb_utils.InferenceResponse([pb_utils.Tensor("POWER", power.as_numpy())])
