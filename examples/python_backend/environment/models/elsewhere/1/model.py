"""Imports what only its own environment has."""

from pathlib import Path

import numpy as np
import spelled_numbers
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.found_in = Path(spelled_numbers.__file__).relative_to(args["model_repository"]).parts[0]

    def execute(self, requests):
        responses = []
        for request in requests:
            number = int(pb_utils.get_input_tensor_by_name(request, "NUMBER").as_numpy()[0])
            outputs = [
                pb_utils.Tensor("SPELLED", np.array([spelled_numbers.spell(number)], dtype=object)),
                pb_utils.Tensor("FOUND_IN", np.array([self.found_in], dtype=object)),
            ]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
