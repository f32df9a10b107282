"""Makes a model, has the server load it, calls it, and has it unloaded."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils

SOURCE = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.factor = np.float32(json.loads(args["model_config"])["parameters"]["factor"]["string_value"])

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("Y", request.inputs()[0].as_numpy() * self.factor)])
            for request in requests
        ]
"""

NAME = "made_by_the_librarian"


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        factor = float(pb_utils.get_input_tensor_by_name(request, "FACTOR").as_numpy()[0])
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        ready = [pb_utils.is_model_ready(model_name=NAME)]
        config = {
            "backend": "python",
            "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1]}],
            "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]}],
            "parameters": {"factor": {"string_value": str(factor)}},
        }
        files = {"file:1/model.py": SOURCE.encode()}
        pb_utils.load_model(model_name=NAME, config=json.dumps(config), files=files)
        try:
            ready.append(pb_utils.is_model_ready(model_name=NAME, model_version="1"))
            call = pb_utils.InferenceRequest(
                model_name=NAME, requested_output_names=["Y"], inputs=[pb_utils.Tensor("X", x)]
            )
            answer = call.exec()
            if answer.has_error():
                return pb_utils.InferenceResponse(error=answer.error())
            y = pb_utils.get_output_tensor_by_name(answer, "Y").as_numpy().copy()
        finally:
            pb_utils.unload_model(model_name=NAME)
        ready.append(pb_utils.is_model_ready(model_name=NAME))
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", y), pb_utils.Tensor("READY", np.array(ready))])
