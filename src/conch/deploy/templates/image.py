"""Answer questions about one image, or one video, with one call of the model.

image-classification: `image` -> `logits`, `probs`, `label`
video-classification: `video` -> `logits`, `probs`, `label`
image-feature-extraction: `image` -> `last_hidden_state`, `pooler_output`
object-detection: `image` -> `boxes` [n, (xmin, ymin, xmax, ymax)], `scores`, `labels`
image-segmentation: `image` -> `masks` [n, height, width] of 0 and 255, `scores`, `labels`
depth-estimation: `image` -> `depth` [height, width], `depth_image` of 0 to 255
"""

from __future__ import annotations

from typing import Any

from hf_media import forward_batches
from hf_resize import complete_processor
from hf_serving import Outputs, Row, Settings, answer, load_pipeline, stage_parameters
from light_inputs import one_image, one_video, video_file
from light_outputs import OUTPUTS
from PIL import Image


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)
        complete_processor(self.pipe.image_processor)
        self.outputs = OUTPUTS[self.settings.task]

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Image.Image | bytes:
        return one_video(row) if "video" in row else one_image(row["image"])

    def preprocess(self, sample: Image.Image | bytes, **parameters: Any) -> Any:
        if isinstance(sample, Image.Image):
            return self.pipe.preprocess(sample, **parameters)
        with video_file(sample) as path:
            return self.pipe.preprocess(path, **parameters)

    def infer(self, samples: list[Image.Image | bytes], **parameters: Any) -> list[Outputs]:
        preprocess, forward, postprocess = stage_parameters(self.pipe, parameters)
        encoded = [self.preprocess(sample, **preprocess) for sample in samples]
        return [
            self.outputs(self.pipe, output, postprocess) for output in forward_batches(self.pipe, encoded, **forward)
        ]
