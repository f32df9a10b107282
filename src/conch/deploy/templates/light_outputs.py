"""From what a pipeline's postprocess returns to the outputs of the model, task by task.

It needs numpy alone; where a function takes a pipeline, its model's tensors are torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from light_serving import Outputs, to_json


def classes(pipe: Any, output: Any, postprocess: dict[str, Any]) -> Outputs:
    """image-, video- and audio-classification."""
    logits = output["logits"][0].float()
    result = pipe.postprocess(output, **postprocess)
    everything = pipe.postprocess(output, **{**postprocess, "top_k": len(logits)})  # best first
    probs = np.empty(len(logits), np.float32)
    probs[logits.argsort(descending=True, stable=True).numpy()] = [entry["score"] for entry in everything]
    return {"logits": logits, "probs": probs, "label": [everything[0]["label"]], "json": to_json(result)}


def text_classes(pipe: Any, output: Any, postprocess: dict[str, Any]) -> Outputs:
    """text-classification."""
    logits = output["logits"]
    every = {**postprocess, "top_k": None, "_legacy": True}  # every class, in the order of the logits
    probs = [entry["score"] for entry in pipe.postprocess({"logits": logits}, **every)]
    result = pipe.postprocess({"logits": logits}, **postprocess)
    best = pipe.model.config.id2label[int(logits[0].argmax())]
    result = result if isinstance(result, list) else [result]
    return {"logits": logits[0], "probs": probs, "label": [best], "json": to_json(result)}


def token_states(pipe: Any, output: Any, postprocess: dict[str, Any]) -> Outputs:
    """feature-extraction."""
    state = next(iter(output.values()))[0]
    return {"last_hidden_state": state, "attention_mask": np.ones(len(state), np.int64)}


def image_features(pipe: Any, output: Any, postprocess: dict[str, Any]) -> Outputs:
    outputs = {"last_hidden_state": output[0][0]}
    if output.get("pooler_output") is not None:
        outputs["pooler_output"] = output["pooler_output"][0].flatten()
    return outputs


def detections(pipe: Any, output: Any, postprocess: dict[str, Any]) -> Outputs:
    return boxes(pipe.postprocess(output, **postprocess))


def boxes(found: list[dict[str, Any]]) -> Outputs:
    """The objects that a detector found."""
    return {
        "boxes": np.array([list(each["box"].values()) for each in found], np.int32).reshape(-1, 4),
        "scores": [each["score"] for each in found],
        "labels": [each["label"] for each in found],
        "json": to_json(found),
    }


def segmentation(pipe: Any, output: Any, postprocess: dict[str, Any]) -> Outputs:
    height, width = output["target_size"][0]
    return segments(pipe.postprocess(output, **postprocess), height, width)


def segments(found: list[dict[str, Any]], height: int, width: int) -> Outputs:
    """The segments of an image; their masks are 0 and 255."""
    return {
        "masks": np.array([np.asarray(each["mask"]) for each in found], np.uint8).reshape(-1, height, width),
        # Semantic segmentation knows no score: 1.
        "scores": [1.0 if each["score"] is None else each["score"] for each in found],
        "labels": [each["label"] for each in found],
        "json": to_json(found),
    }


def depth(pipe: Any, output: Any, postprocess: dict[str, Any]) -> Outputs:
    result = pipe.postprocess(output, **postprocess)
    image = np.asarray(result["depth"])
    return {"depth": result["predicted_depth"], "depth_image": image, "json": to_json(result)}


def filled_masks(pipe: Any, output: Any, postprocess: dict[str, Any]) -> Outputs:
    return guesses(pipe.postprocess(output, **postprocess))


def guesses(result: list[Any]) -> Outputs:
    """What fill-mask put where a text said [MASK]: its guesses, or a list of them for each of several masks."""
    masks = result if isinstance(result[0], list) else [result]
    return {
        "tokens": [[guess["token"] for guess in mask] for mask in masks],
        "token_strings": [[guess["token_str"] for guess in mask] for mask in masks],
        "scores": [[guess["score"] for guess in mask] for mask in masks],
        "sequences": [[guess["sequence"] for guess in mask] for mask in masks],
        "json": to_json(result),
    }


def entities(found: list[dict[str, Any]]) -> Outputs:
    """The entities that token-classification found."""
    return {
        "labels": [entity.get("entity") or entity["entity_group"] for entity in found],
        "scores": [entity["score"] for entity in found],
        "words": [entity["word"] for entity in found],
        # A slow tokenizer does not know where a token stood in the text.
        "start": [-1 if entity["start"] is None else entity["start"] for entity in found],
        "end": [-1 if entity["end"] is None else entity["end"] for entity in found],
        "json": to_json(found),
    }


def matches(pipe: Any, output: Any, postprocess: dict[str, Any]) -> Outputs:
    return keypoints(pipe.postprocess(output, **postprocess))


def keypoints(found: list[dict[str, Any]]) -> Outputs:
    """The pairs of points that keypoint-matching found."""
    points = {
        f"keypoints{side}": np.array(
            [list(match[f"keypoint_image_{side}"].values()) for match in found], np.float32
        ).reshape(-1, 2)
        for side in (0, 1)
    }
    return {**points, "scores": [match["score"] for match in found], "json": to_json(found)}


def transcript(result: dict[str, Any]) -> Outputs:
    """What automatic-speech-recognition understood."""
    spoken = result.get("chunks", [])
    # The last chunk of a cut-off sound has no end: -1.
    times = [[-1.0 if time is None else time for time in part.get("timestamp", (None, None))] for part in spoken]
    return {
        "text": [result["text"]],
        "chunks": [part["text"] for part in spoken],
        "timestamps": np.array(times, np.float32).reshape(-1, 2),
        "json": to_json(result),
    }


def answers(found: list[dict[str, Any]]) -> Outputs:
    """What document-question-answering answered."""
    return {
        "answer": [each["answer"] or "" for each in found],
        # A model that generates its answer has no score (1) and no words to point to (-1).
        "scores": [each.get("score", 1.0) for each in found],
        "start": [each.get("start", -1) for each in found],
        "end": [each.get("end", -1) for each in found],
        "json": to_json(found),
    }


def cells(result: dict[str, Any]) -> Outputs:
    """What table-question-answering answered."""
    return {
        "answer": [result["answer"]],
        "cells": result.get("cells", []),
        "coordinates": np.array(result.get("coordinates", []), np.int64).reshape(-1, 2),
        "aggregator": [result.get("aggregator", "")],
        "json": to_json(result),
    }


def speech(result: dict[str, Any]) -> Outputs:
    """What text-to-audio said, in one channel."""
    audio = np.asarray(result["audio"], np.float32)
    mono = audio if audio.ndim < 2 else audio.mean(axis=0)
    return {"audio": mono.reshape(-1), "sampling_rate": [result["sampling_rate"]]}


def generated(records: list[dict[str, Any]]) -> Outputs:
    """What a pipeline of texts returned: of a conversation, `generated_text` holds the answer alone."""
    texts = [record["generated_text"] for record in records]
    answers = [text if isinstance(text, str) else text[-1]["content"] for text in texts]
    return {"generated_text": answers, "json": to_json(records)}


def written(name: str, texts: list[str]) -> Outputs:
    """Texts that a model wrote of another text; `name` is what the task calls them."""
    return {name: texts, "json": to_json([{name: text} for text in texts])}


#: Tasks whose pipelines call the model once a sample: output of the pipeline's forward -> outputs of the model.
OUTPUTS: dict[str, Callable[[Any, Any, dict[str, Any]], Outputs]] = {
    "text-classification": text_classes,
    "feature-extraction": token_states,
    "fill-mask": filled_masks,
    "image-classification": classes,
    "video-classification": classes,
    "audio-classification": classes,
    "image-feature-extraction": image_features,
    "object-detection": detections,
    "image-segmentation": segmentation,
    "depth-estimation": depth,
    "keypoint-matching": matches,
}

#: Other tasks: what the pipeline's postprocess returned -> outputs of the model.
RESULTS: dict[str, Callable[[Any], Outputs]] = {
    "token-classification": entities,
    "automatic-speech-recognition": transcript,
    "zero-shot-object-detection": boxes,
    "document-question-answering": answers,
    "table-question-answering": cells,
    "text-to-audio": speech,
    "text-generation": generated,
    "image-text-to-text": generated,
    "any-to-any": generated,
}
