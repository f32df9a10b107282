"""Turn videos into what a network of videos takes: `video` -> `pixel_values` [frames, 3, height, width].

The setting `num_frames` is how many frames the network looks at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_image import ImageProcessor
from light_inputs import one_video
from light_serving import Outputs, Settings, answer
from light_video import read_frames


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.processor = ImageProcessor(self.settings.read_json("image_settings.json"))
        self.frames = int(self.settings.values["num_frames"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, one_video, self.infer)

    def infer(
        self, samples: list[bytes], num_frames: int | None = None, frame_sampling_rate: int | None = None, **_: Any
    ) -> list[Outputs]:
        count = self.frames if num_frames is None else num_frames
        every = 1 if frame_sampling_rate is None else frame_sampling_rate
        return [{"pixel_values": self.pixels(sample, count, every)} for sample in samples]

    def pixels(self, video: bytes, count: int, every: int) -> np.ndarray:
        pictures = read_frames(video, count, every)
        if len(pictures) != self.frames:
            raise ValueError(
                f"the model looks at {self.frames} frames, got {len(pictures)}: of {count} asked for "
                f"(num_frames {count}, frame_sampling_rate {every}) the video has {len(pictures)}"
            )
        return np.stack([self.processor(picture)["pixel_values"] for picture in pictures])
