"""Answers its text, and the shapes of its inputs."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(self.outputs(request)) for request in requests]

    def outputs(self, request):
        text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        shapes = sorted(f"{tensor.name()} {list(tensor.as_numpy().shape)}" for tensor in request.inputs())
        rows = [[shape.encode() for shape in shapes] for _ in range(len(text))]
        return [
            pb_utils.Tensor("TEXT", text),
            pb_utils.Tensor("SHAPES", np.array(rows, dtype=np.object_)),
        ]
