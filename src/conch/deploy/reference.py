"""What the libraries themselves answer: the truth a deployed model is compared with.

Nothing here shares code with the templates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from conch.deploy.extras import require, transformers
from conch.deploy.plan import Plan
from conch.deploy.samples import Sample
from conch.deploy.split.light import light_module
from conch.deploy.text_to_text import NAMES, TextToText, writing_of
from conch.errors import ConchError, InvalidArgumentError

#: Output name -> what it should hold (`json`: the pipeline's own result).
Expected = dict[str, Any]

_SENTENCE_TRANSFORMERS = {"sentence-embedding": "SentenceTransformer", "text-ranking": "CrossEncoder"}


class Reference:
    """The library's own model of a checkpoint.

    Args:
        vocoder: the directory of the network that plays its spectrograms, if it makes some.

    Raises:
        InvalidArgumentError: the library cannot load it, or fails on a sample.
    """

    def __init__(self, plan: Plan, checkpoint: Path, vocoder: Path | None = None) -> None:
        self.plan = plan
        with _told(f"the library cannot load '{plan.source}'"):
            self._load(plan, checkpoint, vocoder)
        _check_vocabulary(getattr(self.pipe, "tokenizer", None), plan.source)

    def _load(self, plan: Plan, checkpoint: Path, vocoder: Path | None) -> None:
        library = _SENTENCE_TRANSFORMERS.get(plan.task.name)
        options: dict[str, Any] = {"trust_remote_code": plan.choices.trust_remote_code, "device": "cpu"}
        with _quiet():
            if library:
                module = require("sentence_transformers", "sentence-transformers")
                self.pipe: Any = getattr(module, library)(str(checkpoint), **options)
                return
            transformers()
            if plan.task.name in NAMES:
                writing = writing_of({key: value for key, value, _ in plan.settings})
                trusted = plan.choices.trust_remote_code
                self.pipe = TextToText(
                    plan.task.name, checkpoint, writing, dtype=plan.choices.dtype, trust_remote_code=trusted
                )
                return
            if vocoder is not None:
                options["vocoder"] = transformers().SpeechT5HifiGan.from_pretrained(vocoder)
            pipelines = require("transformers.pipelines")
            self.pipe = pipelines.pipeline(
                plan.task.pipeline, model=str(checkpoint), dtype=plan.choices.dtype, **options
            )
        if vocoder is not None:
            self.pipe.vocoder.to(self.pipe.model.dtype)
        complete(self.pipe)

    @property
    def dtype(self) -> str:
        """The number format the model computes in, as torch names it."""
        model = getattr(self.pipe, "model", self.pipe)
        return str(next(iter(model.parameters())).dtype).removeprefix("torch.")

    def answer(self, sample: Sample) -> Expected:
        """What the deployed model should answer to the sample."""
        failed = f"the library fails on a sample of {self.plan.task.name} with '{self.plan.source}'"
        with _told(failed), _quiet(), require("torch").inference_mode():
            if self.plan.choices.stream:
                return _streamed(self.pipe, sample)
            return _ANSWERS[self.plan.task.name](self.pipe, sample)


def _check_vocabulary(tokenizer: Any, source: str) -> None:
    """Refuse a tokenizer that knows no word: transformers makes one where its files are missing.

    The deployed model would make the same one, and answer every text alike.
    """
    if not callable(getattr(tokenizer, "get_vocab", None)):
        return
    special = set(tokenizer.all_special_tokens)
    if not any(token.strip("\N{LOWER ONE EIGHTH BLOCK} ") for token in tokenizer.get_vocab() if token not in special):
        raise InvalidArgumentError(
            f"'{source}' has no vocabulary: the files of its tokenizer (tokenizer.json, vocab.txt, ...) are missing. "
            "Save the tokenizer beside the model: tokenizer.save_pretrained(DIRECTORY)"
        )


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn whatever the library raises into one line that says what it was asked for."""
    try:
        yield
    except ConchError:
        raise
    except Exception as error:
        raise InvalidArgumentError(f"{what}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """The last line of a text that holds a traceback, as those of pipelines do; else all of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        return lines[-1]
    return f"{type(error).__name__}: {' '.join(lines)}"[:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' progress bars and warnings; the verification has a table of its own."""
    transformers()
    logging = require("transformers.utils.logging")
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def call(pipe: Any, sample: Sample) -> Any:
    """The pipeline's result; pipelines write into dictionaries they are given, so they get copies."""
    keywords = {name: dict(value) if isinstance(value, dict) else value for name, value in sample.keywords.items()}
    return pipe(*sample.arguments, **keywords)


def _result(pipe: Any, sample: Sample) -> Expected:
    return {"json": call(pipe, sample)}


def _classes(pipe: Any, sample: Sample) -> Expected:
    logits = pipe.model(**pipe.preprocess(*sample.arguments)).logits[0].float().numpy()
    everything = pipe(*sample.arguments, top_k=len(logits))
    by_label = {entry["label"]: entry["score"] for entry in everything}
    expected: Expected = {"json": call(pipe, sample), "logits": logits, "label": [everything[0]["label"]]}
    if len(by_label) == len(logits):
        expected["probs"] = [by_label[pipe.model.config.id2label[index]] for index in range(len(logits))]
    return expected


def _column(*names: str) -> Callable[[Any, Sample], Expected]:
    """The pipeline's list of results, and outputs that are a column of it: "output=key" or "key"."""

    def answer(pipe: Any, sample: Sample) -> Expected:
        result = call(pipe, sample)
        pairs = [name.split("=") if "=" in name else (name, name) for name in names]
        return {"json": result, **{output: [entry[key] for entry in result] for output, key in pairs}}

    return answer


def _detections(pipe: Any, sample: Sample) -> Expected:
    found = call(pipe, sample)
    sides = ("xmin", "ymin", "xmax", "ymax")
    boxes = np.array([[each["box"][side] for side in sides] for each in found], np.int32).reshape(-1, 4)
    scores, labels = [each["score"] for each in found], [each["label"] for each in found]
    return {"json": found, "boxes": boxes, "scores": scores, "labels": labels}


def _segments(pipe: Any, sample: Sample) -> Expected:
    segments = call(pipe, sample)
    (image,) = sample.arguments
    masks = np.array([np.asarray(each["mask"]) for each in segments], np.uint8).reshape(-1, image.height, image.width)
    return {"json": segments, "masks": masks, "labels": [each["label"] for each in segments]}


def _depth(pipe: Any, sample: Sample) -> Expected:
    result = call(pipe, sample)
    depth = result["predicted_depth"].float().numpy()
    return {"json": result, "depth": depth, "depth_image": np.asarray(result["depth"])}


def _masks(pipe: Any, sample: Sample) -> Expected:
    result = call(pipe, sample)
    masks = np.array([np.asarray(mask) for mask in result["masks"]], np.uint8) * 255
    return {"masks": masks, "scores": np.asarray(result["scores"])}


def complete(pipe: Any) -> None:
    """Give a pipeline the last step that transformers takes from torchvision alone, where that is missing."""
    if require("transformers.utils").is_torchvision_available():
        return
    if pipe.task == "mask-generation":
        pipe.image_processor.post_process_for_mask_generation = best_masks
    elif pipe.task in ("image-segmentation", "depth-estimation"):
        light_module("hf_resize").complete_processor(pipe.image_processor)


def best_masks(lengths: list[Any], scores: Any, boxes: Any, threshold: float) -> tuple[Any, ...]:
    """What torchvision's `batched_nms` leaves of masks: of each pair that overlaps too much, the better."""
    left, top, right, bottom = boxes.float().numpy().T
    areas = (right - left) * (bottom - top)
    width = np.minimum.outer(right, right) - np.maximum.outer(left, left)
    height = np.minimum.outer(bottom, bottom) - np.maximum.outer(top, top)
    common = np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))
    with np.errstate(invalid="ignore"):
        clash = (common / (areas[:, None] + areas - common)).astype(np.float64) > threshold
    kept: list[int] = []
    for index in np.argsort(-scores.float().numpy(), kind="stable").tolist():
        if not clash[index, kept].any():
            kept.append(index)
    masks = [_unpacked(lengths[index]) for index in kept]
    return masks, scores[kept], [lengths[index] for index in kept], boxes[kept]


def _unpacked(lengths: Mapping[str, Any]) -> np.ndarray:
    """The mask of the lengths of its runs, which go down its columns."""
    height, width = lengths["size"]
    starts = np.cumsum([0, *lengths["counts"]])[1:-1]
    changes = np.zeros(height * width + 1, int)
    np.add.at(changes, starts, 1)
    mask: np.ndarray = (np.cumsum(changes[:-1]) % 2 == 1).reshape(width, height).T
    return mask


def _keypoints(pipe: Any, sample: Sample) -> Expected:
    matches = call(pipe, sample)
    points = [
        np.array([[each[f"keypoint_image_{side}"][axis] for axis in "xy"] for each in matches]).reshape(-1, 2)
        for side in (0, 1)
    ]
    return {
        "json": matches,
        "keypoints0": points[0],
        "keypoints1": points[1],
        "scores": [each["score"] for each in matches],
    }


def _features(pipe: Any, sample: Sample) -> Expected:
    return {"last_hidden_state": np.array(call(pipe, sample))[0]}


def _products(pipe: Any, sample: Sample) -> Expected:
    """A dual encoder on the texts as they are: the whole model through its processors."""
    (medium,), labels = sample.arguments, sample.keywords["candidate_labels"]
    siglip = "siglip" in pipe.model.config.model_type
    padding: dict[str, Any] = {"padding": "max_length", "max_length": 64} if siglip else {"padding": True}
    texts = pipe.tokenizer(labels, return_tensors="pt", **padding)
    if isinstance(medium, np.ndarray):
        rate = pipe.feature_extractor.sampling_rate
        features = pipe.feature_extractor([medium], sampling_rate=rate, return_tensors="pt")
        name = "logits_per_audio"
    else:
        features, name = pipe.image_processor(images=[medium], return_tensors="pt"), "logits_per_image"
    logits = getattr(pipe.model(**texts, **features.to(pipe.model.dtype)), name)[0].float()
    probs = (logits.sigmoid() if siglip else logits.softmax(-1)).numpy()
    ranked = sorted(zip(probs.tolist(), labels, strict=True), key=lambda pair: -pair[0])
    result = [{"score": score, "label": label} for score, label in ranked]
    return {name: logits.numpy(), "probs": probs, "labels": labels, "json": result}


def _zero_shot(pipe: Any, sample: Sample) -> Expected:
    result = call(pipe, sample)
    return {"json": result, "labels": result["labels"], "scores": result["scores"]}


def _embedding(model: Any, sample: Sample) -> Expected:
    return {"embeddings": model.encode(sample.arguments[0])}


def _ranking(model: Any, sample: Sample) -> Expected:
    query, texts = sample.arguments
    return {"scores": model.predict([(query, text) for text in texts])}


def _transcript(pipe: Any, sample: Sample) -> Expected:
    result = call(pipe, sample)
    return {"json": result, "text": [result["text"]]}


def _generated(pipe: Any, sample: Sample) -> Expected:
    """`json` repeats the images of the conversation; the text is what counts."""
    texts = [record["generated_text"] for record in call(pipe, sample)]
    return {"generated_text": [text if isinstance(text, str) else text[-1]["content"] for text in texts]}


def _streamed(pipe: Any, sample: Sample) -> Expected:
    """The new text as a whole, by the model's own `generate`, and the tokens that it took."""
    prompt = pipe.tokenizer(sample.arguments[0], return_tensors="pt")
    tensors = {name: prompt[name] for name in ("input_ids", "attention_mask") if name in prompt}
    size = tensors["input_ids"].shape[1]
    new = pipe.model.generate(**tensors, **sample.keywords)[0, size:].tolist()
    text = pipe.tokenizer.decode(new, skip_special_tokens=True)
    return {"text": [text], "prompt_tokens": [size], "completion_tokens": [len(new)]}


def _written(pipe: Any, sample: Sample) -> Expected:
    records = call(pipe, sample)
    name = NAMES[pipe.task]
    return {name: [record[name] for record in records], "json": records}


def _speech(pipe: Any, sample: Sample) -> Expected:
    """What is said, or played, to random numbers from the sample's seed; in one channel."""
    torch = require("torch")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(sample.parameters["seed"])
        result = call(pipe, sample)
    audio = np.asarray(result["audio"], np.float32)
    return {"audio": audio if audio.ndim < 2 else audio.mean(axis=0), "sampling_rate": [result["sampling_rate"]]}


def _table(pipe: Any, sample: Sample) -> Expected:
    result = call(pipe, sample)
    return {"json": result, "answer": [result["answer"]]}


_ANSWERS: Mapping[str, Callable[[Any, Sample], Expected]] = {
    "text-classification": _classes,
    "image-classification": _classes,
    "video-classification": _classes,
    "audio-classification": _classes,
    "token-classification": _column("scores=score", "words=word", "labels=entity"),
    "fill-mask": _result,
    "feature-extraction": _features,
    "image-feature-extraction": _features,
    "sentence-embedding": _embedding,
    "text-ranking": _ranking,
    "zero-shot-classification": _zero_shot,
    "zero-shot-image-classification": _products,
    "zero-shot-audio-classification": _products,
    "object-detection": _detections,
    "zero-shot-object-detection": _detections,
    "image-segmentation": _segments,
    "depth-estimation": _depth,
    "mask-generation": _masks,
    "keypoint-matching": _keypoints,
    "automatic-speech-recognition": _transcript,
    "text-generation": _generated,
    "image-text-to-text": _generated,
    "any-to-any": _generated,
    **dict.fromkeys(NAMES, _written),
    "text-to-audio": _speech,
    "document-question-answering": _column("answer"),
    "table-question-answering": _table,
    "decision": _result,
}
