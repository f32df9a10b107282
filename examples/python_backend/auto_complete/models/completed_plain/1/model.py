"""Without config.pbtxt: the model says what its configuration is, without batching."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        known = {each["name"] for each in config.as_dict()["input"]}
        if "WORD" not in known:  # a config.pbtxt may say some of it; what it says must not be contradicted
            config.add_input({"name": "WORD", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_input({"name": "TIMES", "data_type": "TYPE_INT32", "dims": [1], "optional": True})
        config.add_output({"name": "REPEATED", "data_type": "TYPE_STRING", "dims": [1]})
        config.set_max_batch_size(0)
        return config

    def execute(self, requests):
        responses = []
        for request in requests:
            word = pb_utils.get_input_tensor_by_name(request, "WORD").as_numpy()[0]
            times = pb_utils.get_input_tensor_by_name(request, "TIMES")  # None where the client left it out
            repeated = word * (2 if times is None else int(times.as_numpy()[0]))
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor("REPEATED", np.array([repeated], dtype=object))])
            )
        return responses
