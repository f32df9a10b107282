"""Writes its own configuration: there is no config.pbtxt."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        auto_complete_model_config.set_max_batch_size(4)
        auto_complete_model_config.set_dynamic_batching()
        auto_complete_model_config.add_input({"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [2]})
        auto_complete_model_config.add_output({"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [2]})
        auto_complete_model_config.add_output({"name": "ARGUMENTS", "data_type": "TYPE_STRING", "dims": [1]})
        return auto_complete_model_config

    def initialize(self, args):
        shown = dict(args)
        shown["model_config"] = sorted(json.loads(args["model_config"]))
        self.arguments = json.dumps(shown, sort_keys=True).encode()

    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            told = np.full((values.shape[0], 1), self.arguments, dtype=np.object_)
            outputs = [pb_utils.Tensor("OUTPUT0", values), pb_utils.Tensor("ARGUMENTS", told)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
