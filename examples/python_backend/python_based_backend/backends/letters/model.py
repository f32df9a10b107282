"""A backend in Python: models that name it bring a template, and no code."""

import string
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "NAME", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_output({"name": "LETTER", "data_type": "TYPE_STRING", "dims": [1]})
        config.set_max_batch_size(8)
        config.set_dynamic_batching()
        return config

    def initialize(self, args):
        self.template = string.Template(Path(pb_utils.get_model_dir(), "letter.txt").read_text().strip())

    def execute(self, requests):
        responses = []
        for request in requests:
            names = pb_utils.get_input_tensor_by_name(request, "NAME").as_numpy()
            letters = [[self.template.substitute(name=name.decode())] for name in names[:, 0]]
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("LETTER", np.array(letters, dtype=object))]))
        return responses
