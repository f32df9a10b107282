"""From the bytes of an image file to the tensor that the network takes."""

import io

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image, UnidentifiedImageError

SIZE = 24


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        files = pb_utils.get_input_tensor_by_name(request, "FILE").as_numpy().reshape(-1)
        try:
            pixels = np.stack([self.read(file) for file in files])
        except UnidentifiedImageError:
            error = pb_utils.TritonError("FILE is no image that can be read", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse([pb_utils.Tensor("PIXELS", pixels)])

    def read(self, file):
        image = Image.open(io.BytesIO(file)).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        return np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1
