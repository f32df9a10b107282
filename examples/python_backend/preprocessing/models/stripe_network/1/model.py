"""A small convolutional network in numpy, which train.py has trained. All pictures of a batch go through it at once."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from network import forward


class TritonPythonModel:
    def initialize(self, args):
        with np.load(Path(pb_utils.get_model_dir(), "weights.npz")) as weights:
            self.weights = dict(weights)

    def execute(self, requests):
        pixels = [pb_utils.get_input_tensor_by_name(request, "PIXELS").as_numpy() for request in requests]
        probabilities = forward(self.weights, np.concatenate(pixels))
        ends = np.cumsum([len(each) for each in pixels])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("PROBABILITIES", part)])
            for part in np.split(probabilities, ends)
        ]
