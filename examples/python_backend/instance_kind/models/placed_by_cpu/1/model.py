"""Computes where its instance group says, and tells where that was."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.kind = args["model_instance_kind"]
        self.device = self.choose(args["model_instance_device_id"])

    def choose(self, device_id):
        """KIND_GPU: the given GPU. KIND_CPU: the host. KIND_MODEL: the model decides, here for what is there."""
        if self.kind == "GPU":
            return f"cuda:{device_id}"
        if self.kind == "CPU":
            return "cpu"
        return "cuda" if Path("/dev/nvidia0").exists() else "cpu"

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            place = np.array([[self.kind, self.device]], dtype=object)
            outputs = [pb_utils.Tensor("Y", np.sqrt(x)), pb_utils.Tensor("PLACE", place)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
