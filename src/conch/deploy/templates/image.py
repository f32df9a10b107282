"""Answer questions about one image, or one video, with one call of the model.

image-classification: `image` -> `logits`, `probs`, `label`
video-classification: `video` -> `logits`, `probs`, `label`
image-feature-extraction: `image` -> `last_hidden_state`, `pooler_output`
object-detection: `image` -> `boxes` [n, (xmin, ymin, xmax, ymax)], `scores`, `labels`
image-segmentation: `image` -> `masks` [n, height, width] of 0 and 255, `scores`, `labels`
depth-estimation: `image` -> `depth` [height, width], `depth_image` of 0 to 255
"""

from __future__ import annotations

from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from hf_media import file_bytes, forward_batches, one_image
from hf_serving import Outputs, Row, Settings, answer, load_pipeline, stage_parameters, to_json
from PIL import Image


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)
        self.outputs = {
            "image-classification": self.classification,
            "video-classification": self.classification,
            "image-feature-extraction": self.features,
            "object-detection": self.detection,
            "image-segmentation": self.segmentation,
            "depth-estimation": self.depth,
        }[self.settings.task]

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Image.Image | bytes:
        return file_bytes(row["video"].reshape(-1)[0]) if "video" in row else one_image(row["image"])

    def preprocess(self, sample: Image.Image | bytes, **parameters: Any) -> Any:
        if isinstance(sample, Image.Image):
            return self.pipe.preprocess(sample, **parameters)
        if sample.lstrip().startswith((b"#EXTM3U", b"ffconcat")):
            raise ValueError("expected an encoded video, got a list that points to other files")
        with NamedTemporaryFile(suffix=".video") as file:  # the pipeline reads videos from files
            file.write(sample)
            file.flush()
            return self.pipe.preprocess(file.name, **parameters)

    def infer(self, samples: list[Image.Image | bytes], **parameters: Any) -> list[Outputs]:
        preprocess, forward, postprocess = stage_parameters(self.pipe, parameters)
        encoded = [self.preprocess(sample, **preprocess) for sample in samples]
        return [self.outputs(output, postprocess) for output in forward_batches(self.pipe, encoded, **forward)]

    def classification(self, output: Any, postprocess: dict[str, Any]) -> Outputs:
        logits = output["logits"][0].float()
        result = self.pipe.postprocess(output, **postprocess)
        classes = self.pipe.postprocess(output, **{**postprocess, "top_k": len(logits)})  # best first
        probs = np.empty(len(logits), np.float32)
        probs[logits.argsort(descending=True, stable=True).numpy()] = [entry["score"] for entry in classes]
        return {"logits": logits, "probs": probs, "label": [classes[0]["label"]], "json": to_json(result)}

    def features(self, output: Any, postprocess: dict[str, Any]) -> Outputs:
        outputs = {"last_hidden_state": output[0][0]}
        if output.get("pooler_output") is not None:
            outputs["pooler_output"] = output["pooler_output"][0].flatten()
        return outputs

    def detection(self, output: Any, postprocess: dict[str, Any]) -> Outputs:
        found = self.pipe.postprocess(output, **postprocess)
        boxes = np.array([list(each["box"].values()) for each in found], np.int32).reshape(-1, 4)
        return {
            "boxes": boxes,
            "scores": [each["score"] for each in found],
            "labels": [each["label"] for each in found],
            "json": to_json(found),
        }

    def segmentation(self, output: Any, postprocess: dict[str, Any]) -> Outputs:
        height, width = output["target_size"][0]
        segments = self.pipe.postprocess(output, **postprocess)
        masks = np.array([np.asarray(each["mask"]) for each in segments], np.uint8).reshape(-1, height, width)
        return {
            "masks": masks,
            # Semantic segmentation knows no score: 1.
            "scores": [1.0 if each["score"] is None else each["score"] for each in segments],
            "labels": [each["label"] for each in segments],
            "json": to_json(segments),
        }

    def depth(self, output: Any, postprocess: dict[str, Any]) -> Outputs:
        result = self.pipe.postprocess(output, **postprocess)
        image = np.asarray(result["depth"])
        return {"depth": result["predicted_depth"], "depth_image": image, "json": to_json(result)}
