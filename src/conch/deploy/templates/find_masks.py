"""Say where things are: `image_embeddings`, what a network saw in an image, and `image_size` -> the outputs of
mask-generation. Crops of the image come by `light_rows.py`.

At points of the image the network's other half, the model that the setting `decoder` names, draws masks; it is asked
for `points_per_batch` at a time. `masks_settings.json` beside model.py holds `longest`, the longest edge of images as
the network is given them, and `square`, the height and width it pads them to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from light_crops import Box, crop_boxes, grid_points
from light_masks import Enlarging, Limits, Mask, best, find, pixels_of
from light_rows import ask_model, bring_back
from light_serving import Outputs, Row, Settings, answer, to_json


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        how = self.settings.read_json("masks_settings.json")
        self.longest: int = how["longest"]
        self.square: tuple[int, int] = tuple(how["square"])
        self.decoder = self.settings.values["decoder"]

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(
        self,
        samples: list[Row],
        points_per_batch: int | None = 64,
        points_per_crop: int = 32,
        crops_n_layers: int = 0,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        mask_threshold: float = 0.0,
        crops_nms_thresh: float = 0.7,
    ) -> list[Outputs]:
        together = points_per_batch if points_per_batch is not None else points_per_crop**2
        limits = Limits(pred_iou_thresh, stability_score_thresh, mask_threshold)
        outcomes = []
        for rows in bring_back(self.settings, samples):
            image = tuple(rows[0]["image_size"].tolist())
            masks: list[Mask] = []
            for row, crop in zip(rows, crop_boxes(*image, crops_n_layers), strict=True):
                masks += self.masks_of(row["image_embeddings"], crop, image, points_per_crop, together, limits)
            outcomes.append(outputs_of(best(masks, crops_nms_thresh), image))
        return outcomes

    def masks_of(
        self, seen: np.ndarray, crop: Box, image: tuple[int, int], side: int, together: int, limits: Limits
    ) -> list[Mask]:
        """The masks of a crop."""
        left, top, right, bottom = crop
        size = (bottom - top, right - left)
        points = grid_points(size, self.longest, side)
        enlarging = None
        found = []
        for drawn, scores in self.drawn(seen, points, together):
            enlarging = enlarging or Enlarging(drawn.shape[-2:], self.square, size, self.longest)
            found += find(drawn, scores, enlarging, crop, image, limits)
        return found

    def drawn(self, seen: np.ndarray, points: np.ndarray, together: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Masks [masks, height, width] at some points after the other, and what the network thinks of them [masks]."""
        if not pb_utils.is_model_ready(self.decoder):
            pb_utils.load_model(self.decoder)  # no step of the ensemble: who loads that does not load it
        for start in range(0, len(points), together):
            row = {"image_embeddings": seen, "input_points": points[start : start + together]}
            answered = ask_model(self.decoder, ["pred_masks", "iou_scores"], [row])
            masks = answered["pred_masks"][0]
            yield masks.reshape(-1, *masks.shape[-2:]), answered["iou_scores"].reshape(-1)


def outputs_of(masks: list[Mask], image: tuple[int, int]) -> Outputs:
    scores = np.array([mask.score for mask in masks], np.float32)
    pixels = [pixels_of(mask, image) for mask in masks]
    return {
        "masks": np.array(pixels, np.uint8).reshape(-1, *image) * 255,
        "scores": scores,
        "json": to_json({"masks": pixels, "scores": scores}),
    }
