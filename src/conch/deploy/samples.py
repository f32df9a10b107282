"""Inputs to verify a model with, made on the spot: sentences, drawn images, tones.

Several a task, of unequal size, so that batching and padding are verified too.
"""

from __future__ import annotations

import atexit
import functools
import io
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from conch.deploy.extras import require
from conch.deploy.plan import Plan

SENTENCES = (
    "The wind came in from the sea.",
    "A red boat with two sails, three sailors and a dog lay in the harbour of Lisbon that evening.",
    "Maria bought two apples and a kite.",
)
_LABEL_SETS = (["a cat", "a photo of a large green circle"], ["a boat", "a blue kite", "the sea"], ["red", "blue"])
#: Width, height. Both differ for processors too that make them multiples of 32, or an exported network would have one.
_IMAGE_SIZES = ((64, 48), (100, 128), (64, 48))
_SECONDS = (0.8, 1.3, 0.8)
_GREEDY = {"max_new_tokens": 8, "do_sample": False}


class Sample(msgspec.Struct, frozen=True):
    """One request and the same as a call of the transformers pipeline.

    Attributes:
        inputs: tensors without the batch dimension.
        arguments, keywords: of the pipeline.
        parameters: of the request; they mean what `keywords` means.
    """

    inputs: Mapping[str, np.ndarray]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any] = {}
    parameters: Mapping[str, Any] = {}


def make_samples(plan: Plan, pipe: Any) -> list[Sample]:
    """Samples for a plan's task; `pipe` is its transformers pipeline, asked for its mask token, sampling rate, ..."""
    return [_MAKERS[plan.task.name](plan, pipe, index) for index in range(len(SENTENCES))]


def text_array(*texts: str) -> np.ndarray:
    """A BYTES tensor [len(texts)]."""
    return np.array([text.encode() for text in texts], dtype=object)


def draw_image(index: int) -> Any:
    """A PIL image of a few shapes; 0 and 2 have one size."""
    image_module, draw_module = require("PIL.Image", "pillow"), require("PIL.ImageDraw", "pillow")
    width, height = _IMAGE_SIZES[index]
    slope = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 55, height)[:, None, None] * np.ones(3)
    image = image_module.fromarray(slope.astype(np.uint8))
    draw = draw_module.Draw(image)
    draw.ellipse((4 + 6 * index, 6, 30 + 6 * index, 34), fill=("red", "green", "blue")[index])
    draw.rectangle((width // 2, height // 2, width - 6, height - 8), fill=("yellow", "purple", "white")[index])
    return image


def image_array(plan: Plan, *images: Any, name: str = "image") -> np.ndarray:
    """Images as the plan's input takes them: PNG files, or pixels."""
    spec = next(each for each in plan.inputs if each.name == name)
    if spec.datatype.value == "BYTES":
        files = []
        for image in images:
            buffer = io.BytesIO()
            image.save(buffer, format="PNG")
            files.append(buffer.getvalue())
        return np.array([*files, None], dtype=object)[:-1]
    pixels = np.stack([np.asarray(image, dtype=spec.datatype.dtype) for image in images])
    return pixels if len(spec.dims) == 4 else pixels[0]


def tone(index: int, rate: int) -> np.ndarray:
    """A chord of `_SECONDS[index]` seconds in 16-bit steps, so that a WAV file holds it exactly."""
    time = np.arange(int(_SECONDS[index] * rate)) / rate
    wave = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220 + 40 * index, 331.0, 487.0)) / 4
    return np.asarray(np.round(wave * 32767) / 32768, dtype=np.float32)


def audio_inputs(plan: Plan, samples: np.ndarray, rate: int) -> dict[str, np.ndarray]:
    """A sound as the plan's inputs take it: a WAV file, or samples and their rate."""
    spec = next(each for each in plan.inputs if each.name == "audio")
    if spec.datatype.value != "BYTES":
        return {"audio": samples, "sampling_rate": np.array([rate], np.int32)}
    buffer = io.BytesIO()
    require("soundfile").write(buffer, samples, rate, format="WAV", subtype="PCM_16")
    return {"audio": np.array([buffer.getvalue()], dtype=object)}


def _text(plan: Plan, pipe: Any, index: int) -> Sample:
    return Sample({"text": text_array(SENTENCES[index])}, (SENTENCES[index],))


def _masked(plan: Plan, pipe: Any, index: int) -> Sample:
    first, _, rest = SENTENCES[index].partition(" ")
    text = f"{first} {pipe.tokenizer.mask_token} {rest}"
    return Sample({"text": text_array(text)}, (text,))


def _labelled_text(plan: Plan, pipe: Any, index: int) -> Sample:
    labels = _LABEL_SETS[index]
    inputs = {"text": text_array(SENTENCES[index]), "candidate_labels": text_array(*labels)}
    return Sample(inputs, (SENTENCES[index],), {"candidate_labels": labels})


def _ranking(plan: Plan, pipe: Any, index: int) -> Sample:
    texts = SENTENCES[index:]
    query = "What did Maria buy?"
    return Sample({"query": text_array(query), "text": text_array(*texts)}, (query, list(texts)))


def _image(plan: Plan, pipe: Any, index: int) -> Sample:
    image = draw_image(index)
    return Sample({"image": image_array(plan, image)}, (image,))


def _segmented_image(plan: Plan, pipe: Any, index: int) -> Sample:
    """An image; where it may be cut into parts, transformers puts only classes of pixels together."""
    sample = _image(plan, pipe, index)
    if not getattr(pipe.image_processor, "do_split_image", False):
        return sample
    semantic = {"subtask": "semantic"}
    return msgspec.structs.replace(sample, keywords=semantic, parameters=semantic)


def _crowded_image(plan: Plan, pipe: Any, index: int) -> Sample:
    """An image of several things; 64 points of it, for the usual thousand take minutes on a CPU."""
    few = {"points_per_crop": 8}
    return msgspec.structs.replace(_image(plan, pipe, index), keywords=few, parameters=few)


def _labelled_image(plan: Plan, pipe: Any, index: int) -> Sample:
    image, labels = draw_image(index), _LABEL_SETS[index]
    inputs = {"image": image_array(plan, image), "text": text_array(*labels)}
    return Sample(inputs, (image,), {"candidate_labels": labels})


def _image_pair(plan: Plan, pipe: Any, index: int) -> Sample:
    pair = [draw_image(index), draw_image(index).rotate(5)]
    return Sample({"image": image_array(plan, *pair)}, (pair,))


@functools.cache
def _video_directory() -> Path:
    """Where videos lie, which the pipeline reads from files; gone with the process."""
    directory = tempfile.TemporaryDirectory(prefix="conch-video-")
    atexit.register(directory.cleanup)
    return Path(directory.name)


def _video(plan: Plan, pipe: Any, index: int) -> Sample:
    av = require("av", "av")
    frames = 2 * int(getattr(pipe.model.config, "num_frames", 8))
    path = _video_directory() / f"{index}.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = *_IMAGE_SIZES[index], "yuv420p"
        for turn in range(frames):
            picture = np.asarray(draw_image(index).rotate(3 * turn))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return Sample({"video": np.array([path.read_bytes()], dtype=object)}, (str(path),))


def _sound(plan: Plan, pipe: Any, index: int) -> Sample:
    rate = pipe.feature_extractor.sampling_rate
    samples = tone(index, rate)
    return Sample(audio_inputs(plan, samples, rate), (samples,))


def _labelled_sound(plan: Plan, pipe: Any, index: int) -> Sample:
    sound, labels = _sound(plan, pipe, index), _LABEL_SETS[index]
    return Sample({**sound.inputs, "text": text_array(*labels)}, sound.arguments, {"candidate_labels": labels})


def _prompt(plan: Plan, pipe: Any, index: int) -> Sample:
    return Sample({"text": text_array(SENTENCES[index])}, (SENTENCES[index],), _GREEDY, _GREEDY)


def _source_text(plan: Plan, pipe: Any, index: int) -> Sample:
    """A text to be written anew; translations name languages where the model knows several."""
    keywords: dict[str, Any] = {"max_new_tokens": 8, "min_new_tokens": 1, "do_sample": False}
    if plan.task.name == "translation":
        keywords |= pipe.writing.languages.example(getattr(pipe.tokenizer, "src_lang", ""))
    return Sample({"text": text_array(SENTENCES[index])}, (SENTENCES[index],), keywords, keywords)


def _multimodal(plan: Plan, pipe: Any, index: int) -> Sample:
    """A conversation about an image, or a caption where the model knows no conversations; any-to-any: text alone."""
    keywords: dict[str, Any] = {"max_new_tokens": 8, "generate_kwargs": {"do_sample": False}}
    parameters = {"max_new_tokens": 8, "do_sample": False}
    if plan.task.name == "any-to-any":
        keywords["text"] = SENTENCES[index]
        return Sample({"text": text_array(SENTENCES[index])}, (), keywords, parameters)
    image = draw_image(index)
    if getattr(pipe.processor, "chat_template", None) is None:
        keywords |= {"images": image, "text": "a photo of"}
        return Sample({"text": text_array("a photo of"), "image": image_array(plan, image)}, (), keywords, parameters)
    text = {"type": "text", "text": SENTENCES[index]}
    sent = [{"role": "user", "content": [{"type": "image"}, text]}]
    keywords["text"] = [{"role": "user", "content": [{"type": "image", "image": image}, text]}]
    inputs = {"messages": text_array(json.dumps(sent)), "image": image_array(plan, image)}
    return Sample(inputs, (), keywords, parameters)


def _document(plan: Plan, pipe: Any, index: int) -> Sample:
    image, words = draw_image(index), SENTENCES[index].rstrip(".").split()
    boxes = [[word, [40, 30 + 45 * row, 400, 70 + 45 * row]] for row, word in enumerate(words)]
    question = ("What came?", "Where did the boat lie?", "What did Maria buy?")[index]
    inputs = {
        "question": text_array(question),
        "image": image_array(plan, image),
        "word_boxes": text_array(json.dumps(boxes)),
    }
    return Sample(inputs, ({"question": question, "image": image, "word_boxes": boxes},))


def _table(plan: Plan, pipe: Any, index: int) -> Sample:
    table = {"thing": ["boat", "kite", "apple"][: index + 1], "price": ["900", "12", "1"][: index + 1]}
    query = "What is the price of the boat?"
    inputs = {"query": text_array(query), "table": text_array(json.dumps(table))}
    return Sample(inputs, ({"table": table, "query": query},))


def _decision(plan: Plan, pipe: Any, index: int) -> Sample:
    topic = {"type": "choice", "instructions": "What is it about?", "criteria": {"sea": "ships", "food": None}}
    request = {"state": SENTENCES[index], "questions": {"topic": topic, "short": {"type": "noul"}}}
    return Sample({"request": text_array(json.dumps(request))}, (request,))


def _spoken_text(plan: Plan, pipe: Any, index: int) -> Sample:
    text, said = _text(plan, pipe, index), {"seed": 11}
    speaker = next((spec for spec in plan.inputs if spec.name == "speaker_embeddings"), None)
    if speaker is None:
        return msgspec.structs.replace(text, parameters=said)
    vector = np.random.default_rng(index).normal(size=[int(dim) for dim in speaker.dims]).astype(np.float32)
    keywords = {"forward_params": {speaker.name: require("torch").from_numpy(vector)[None]}}
    return Sample({**text.inputs, speaker.name: vector}, text.arguments, keywords, said)


_MAKERS: Mapping[str, Callable[[Plan, Any, int], Sample]] = {
    **dict.fromkeys(("text-classification", "token-classification", "feature-extraction", "sentence-embedding"), _text),
    "text-to-audio": _spoken_text,
    "fill-mask": _masked,
    "zero-shot-classification": _labelled_text,
    "text-ranking": _ranking,
    **dict.fromkeys(("image-classification", "image-feature-extraction", "object-detection"), _image),
    "depth-estimation": _image,
    "image-segmentation": _segmented_image,
    **dict.fromkeys(("zero-shot-image-classification", "zero-shot-object-detection"), _labelled_image),
    "mask-generation": _crowded_image,
    "keypoint-matching": _image_pair,
    "video-classification": _video,
    **dict.fromkeys(("audio-classification", "automatic-speech-recognition"), _sound),
    "zero-shot-audio-classification": _labelled_sound,
    "text-generation": _prompt,
    **dict.fromkeys(("text2text-generation", "summarization", "translation"), _source_text),
    **dict.fromkeys(("image-text-to-text", "any-to-any"), _multimodal),
    "document-question-answering": _document,
    "table-question-answering": _table,
    "decision": _decision,
}
