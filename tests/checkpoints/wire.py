"""From samples to the tensors of a deployed model, and from a library's answers to what its tensors should hold."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .samples import CLAP_RATE, RATE, SPEECH_SEED, Sample

Array = npt.NDArray[Any]
Inputs = dict[str, Array]
Call = tuple[Inputs, dict[str, Any]]

PNG_IN_BASE64 = base64.b64encode(b"\x89PNG\r\n\x1a\n")[:11].decode()
"""How every PNG file in base64 begins."""


def texts(*values: str | bytes) -> Array:
    """BYTES [n]."""
    return np.array([value.encode() if isinstance(value, str) else value for value in values], dtype=np.object_)


def png(picture: Image.Image) -> bytes:
    """Without loss, so that the model sees the very pixels of the sample."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _text(sample: Sample) -> Call:
    return {"text": texts(sample.args[0])}, dict(sample.kwargs)


def _image(sample: Sample) -> Call:
    return {"image": texts(png(sample.args[0]))}, dict(sample.kwargs)


def _spoken_text(sample: Sample) -> Call:
    vectors = sample.kwargs.get("forward_params", {})
    inputs = {name: np.asarray(vector[0], np.float32) for name, vector in vectors.items()}
    return {"text": texts(sample.args[0]), **inputs}, {"seed": SPEECH_SEED}


def _labelled_text(sample: Sample) -> Call:
    parameters = dict(sample.kwargs)
    labels = parameters.pop("candidate_labels")
    return {"text": texts(sample.args[0]), "candidate_labels": texts(*labels)}, parameters


def _labelled_image(sample: Sample) -> Call:
    inputs = {"image": texts(png(sample.args[0])), "text": texts(*sample.kwargs["candidate_labels"])}
    return inputs, {"hypothesis_template": "This is a photo of {}."}


def _query(sample: Sample) -> Call:
    query, candidates = sample.args
    return {"query": texts(query), "text": texts(*candidates)}, {}


def wav(samples: Array, rate: int) -> bytes:
    """Without loss: floating point samples."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def _sound(sample: Sample) -> Call:
    sound = sample.args[0]
    return {"audio": texts(wav(sound["raw"], sound["sampling_rate"]))}, {}


def _labelled_sound(sample: Sample) -> Call:
    inputs = {"audio": texts(wav(sample.args[0], CLAP_RATE)), "text": texts(*sample.kwargs["candidate_labels"])}
    return inputs, {"hypothesis_template": "This is a sound of {}."}


def _searched_image(sample: Sample) -> Call:
    return {"image": texts(png(sample.args[0])), "text": texts(*sample.kwargs["candidate_labels"])}, {}


def _image_pair(sample: Sample) -> Call:
    return {"image": texts(*map(png, sample.args[0]))}, {}


def _video(sample: Sample) -> Call:
    return {"video": texts(Path(sample.args[0]).read_bytes())}, {}


def _document(sample: Sample) -> Call:
    page, question, *boxes = sample.args
    inputs = {"image": texts(png(page)), "question": texts(question)}
    return inputs | ({"word_boxes": texts(json.dumps(boxes[0]))} if boxes else {}), {}


def _table(sample: Sample) -> Call:
    question = sample.args[0]
    return {"query": texts(question["query"]), "table": texts(json.dumps(question["table"]))}, {}


def _decision(sample: Sample) -> Call:
    return {"request": texts(json.dumps(sample.args[0]))}, {}


def _prompt(sample: Sample) -> Call:
    """A prompt or a conversation, by position or by name, with the images and sounds that belong to it."""
    given = dict(zip(("text",), sample.args, strict=False)) | dict(sample.kwargs)
    prompt, pictures = given["text"], [given["images"]] if "images" in given else []
    inputs: Inputs = {}
    if isinstance(prompt, str):
        inputs["text"] = texts(prompt)
    else:
        messages, found = _without_images(prompt)
        inputs["messages"] = texts(json.dumps(messages))
        pictures += found
    if pictures:
        inputs["image"] = texts(*map(png, pictures))
    if "audio" in given:
        inputs["audio"] = texts(wav(given["audio"], RATE))
    return inputs, {}


def _without_images(conversation: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    """The conversation with a bare {"type": "image"} for each image, and the images in order."""
    messages, pictures = [], []
    for message in conversation:
        content = message["content"]
        if not isinstance(content, str):
            pictures += [part["image"] for part in content if part["type"] == "image"]
            content = [{key: value for key, value in part.items() if key != "image"} for part in content]
        messages.append({**message, "content": content})
    return messages, pictures


def _source_text(sample: Sample) -> Call:
    return {"text": texts(sample.args[0])}, dict(sample.kwargs)


CALLS: Mapping[str, Callable[[Sample], Call]] = {
    "any-to-any": _prompt,
    "audio-classification": _sound,
    "automatic-speech-recognition": _sound,
    "decision": _decision,
    "depth-estimation": _image,
    "document-question-answering": _document,
    "feature-extraction": _text,
    "fill-mask": _text,
    "image-classification": _image,
    "image-feature-extraction": _image,
    "image-segmentation": _image,
    "image-text-to-text": _prompt,
    "keypoint-matching": _image_pair,
    "mask-generation": _image,
    "object-detection": _image,
    "sentence-similarity": _text,
    "summarization": _source_text,
    "table-question-answering": _table,
    "text2text-generation": _source_text,
    "text-classification": _text,
    "text-generation": _prompt,
    "text-ranking": _query,
    "text-to-audio": _spoken_text,
    "token-classification": _text,
    "translation": _source_text,
    "video-classification": _video,
    "zero-shot-audio-classification": _labelled_sound,
    "zero-shot-classification": _labelled_text,
    "zero-shot-image-classification": _labelled_image,
    "zero-shot-object-detection": _searched_image,
}
"""Task -> how a sample becomes inputs (without a batch dimension) and request parameters."""


def _column(key: str, kind: Any = np.float32) -> Callable[[list[dict[str, Any]]], Any]:
    return lambda answer: [kind(item[key]) for item in answer]


def _boxes(answer: list[dict[str, Any]]) -> Array:
    corners = [[item["box"][key] for key in ("xmin", "ymin", "xmax", "ymax")] for item in answer]
    return np.array(corners, dtype=np.int32).reshape(-1, 4)


Expected = Mapping[str, Callable[[Any], Any]]


def _best_label(answer: list[dict[str, Any]]) -> list[str]:
    return [answer[0]["label"]]


def _points(image: str) -> Callable[[list[dict[str, Any]]], Array]:
    return lambda answer: np.array([[match[image]["x"], match[image]["y"]] for match in answer], dtype=np.float32)


def _generated(answer: list[dict[str, Any]]) -> list[str]:
    """The text of each sequence; of a conversation, what the assistant added."""
    made = [item["generated_text"] for item in answer]
    return [text if isinstance(text, str) else text[-1]["content"] for text in made]


_DETECTED: Expected = {"boxes": _boxes, "scores": _column("score"), "labels": _column("label", str)}

OUTPUTS: Mapping[str, Expected] = {
    "any-to-any": {"generated_text": _generated},
    "audio-classification": {"label": _best_label},
    "automatic-speech-recognition": {"text": lambda answer: [answer["text"]]},
    "decision": {"questions": list, "answers": lambda answer: list(answer.values())},
    "depth-estimation": {
        "depth": lambda answer: answer["predicted_depth"],
        "depth_image": lambda answer: np.asarray(answer["depth"]),
    },
    "document-question-answering": {
        "answer": lambda answer: [item["answer"] for item in answer],
        "scores": lambda answer: [item.get("score", 1.0) for item in answer],
        "start": lambda answer: [item.get("start", -1) for item in answer],
        "end": lambda answer: [item.get("end", -1) for item in answer],
    },
    "feature-extraction": {"last_hidden_state": lambda answer: np.array(answer[0], dtype=np.float32)},
    "fill-mask": {
        "tokens": lambda answer: [[item["token"] for item in answer]],
        "token_strings": lambda answer: [[item["token_str"] for item in answer]],
        "scores": lambda answer: [[item["score"] for item in answer]],
        "sequences": lambda answer: [[item["sequence"] for item in answer]],
    },
    "image-classification": {"label": _best_label},
    "image-feature-extraction": {"last_hidden_state": lambda answer: np.array(answer[0], dtype=np.float32)},
    "image-segmentation": {
        "masks": lambda answer: np.stack([np.asarray(item["mask"]) for item in answer]),
        "scores": lambda answer: [1.0 if item["score"] is None else item["score"] for item in answer],
        "labels": _column("label", str),
    },
    "image-text-to-text": {"generated_text": _generated},
    "keypoint-matching": {
        "keypoints0": _points("keypoint_image_0"),
        "keypoints1": _points("keypoint_image_1"),
        "scores": _column("score"),
    },
    "mask-generation": {"scores": lambda answer: answer["scores"]},
    "object-detection": _DETECTED,
    "sentence-similarity": {"embeddings": lambda answer: answer},
    "summarization": {"summary_text": _column("summary_text", str)},
    "table-question-answering": {
        "answer": lambda answer: [answer["answer"]],
        "cells": lambda answer: answer["cells"],
        "coordinates": lambda answer: np.array(answer["coordinates"]).reshape(-1, 2),
        "aggregator": lambda answer: [answer.get("aggregator", "")],
    },
    "text2text-generation": {"generated_text": _column("generated_text", str)},
    "text-classification": {"label": _best_label},
    "text-generation": {"generated_text": _generated},
    "text-ranking": {"scores": lambda answer: answer},
    "text-to-audio": {
        "audio": lambda answer: answer["audio"].reshape(-1),
        "sampling_rate": lambda answer: [answer["sampling_rate"]],
    },
    "token-classification": {
        "labels": _column("entity", str),
        "scores": _column("score"),
        "words": _column("word", str),
        "start": _column("start", int),
        "end": _column("end", int),
    },
    "translation": {"translation_text": _column("translation_text", str)},
    "video-classification": {"label": _best_label},
    "zero-shot-audio-classification": {},
    "zero-shot-classification": {"labels": lambda answer: answer["labels"], "scores": lambda answer: answer["scores"]},
    "zero-shot-image-classification": {},
    "zero-shot-object-detection": _DETECTED,
}
"""Task -> output -> what it should hold (without a batch dimension), from the library's answer."""


def batched(inputs: Mapping[str, Array]) -> Inputs:
    """The inputs of a model with a batch dimension: a batch of one."""
    return {name: array[None] for name, array in inputs.items()}


def readable(array: Array) -> Any:
    """An output as what it is compared with: BYTES as nested lists of text, everything else as it is."""
    return _decoded(array.tolist()) if array.dtype == np.object_ else array


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def from_json(text: str, like: Any = None) -> Any:
    """Read a `json` output: PNG files become arrays, and lists too where `like` holds an array or tensor.

    Masks of `like` that are true and false are pictures of 0 and 255.
    """
    return _as(json.loads(text), like)


def _as(value: Any, like: Any) -> Any:
    if isinstance(value, str) and value.startswith(PNG_IN_BASE64):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(value))))
        return picture > 0 if str(getattr(like, "dtype", "")).endswith("bool") else picture
    if isinstance(like, np.ndarray) or hasattr(like, "detach"):
        return np.array(value)
    if isinstance(value, dict):
        known = like if isinstance(like, Mapping) else {}
        return {key: _as(item, known.get(key)) for key, item in value.items()}
    if isinstance(value, list):
        others = like if isinstance(like, list | tuple) and len(like) == len(value) else [None] * len(value)
        return [_as(item, other) for item, other in zip(value, others, strict=True)]
    return value
