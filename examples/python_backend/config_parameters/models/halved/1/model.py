"""The same code for several models; `parameters` of the configuration make the difference."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.factor = np.float32(parameters["factor"])
        self.offset = np.float32(Path(pb_utils.get_model_dir(), parameters["offset_file"]).read_text())
        self.dtype = pb_utils.triton_string_to_numpy(pb_utils.get_output_config_by_name(config, "Y")["data_type"])

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            y = (x * self.factor + self.offset).astype(self.dtype)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", y)]))
        return responses
