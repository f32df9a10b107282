"""Echoes, unless the first value is negative."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "X").as_numpy()) for request in requests]

    def answer(self, values):
        match int(values.flat[0]):
            case -1:
                raise ValueError("bad luck")
            case -2:
                return self.error("no such luck", pb_utils.TritonError.INVALID_ARG)
            case -3:
                return self.error("no such luck", pb_utils.TritonError.UNAVAILABLE)
            case -4:
                return self.error("no such luck", pb_utils.TritonError.CANCELLED)
            case -5:
                return pb_utils.InferenceResponse([])
            case -6:
                values = values[:, :, None]
            case -7:
                values = values.astype(np.int32)
            case -8:
                return self.error("no such luck", pb_utils.TritonError.NOT_FOUND)
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", values)])

    def error(self, text, code):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))
