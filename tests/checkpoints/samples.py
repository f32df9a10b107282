"""What one passes to transformers' own pipelines: two or more samples a task, of differing lengths and sizes.

Every call makes new objects, since pipelines take entries out of the dictionaries they are given.
"""

from __future__ import annotations

import atexit
import functools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Waveform = npt.NDArray[np.float32]

RATE = 16000
CLAP_RATE = 8000


@dataclass(frozen=True)
class Sample:
    """The arguments of one call: `pipe(*sample.args, **sample.kwargs)`."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def image(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB picture of a sloping background and a few coloured shapes."""
    random = np.random.default_rng(seed)
    columns, rows = np.linspace(0, 160, width), np.linspace(0, 90, height)
    background = (columns[None, :, None] + rows[:, None, None] + random.uniform(0, 40, 3)).astype(np.uint8)
    picture = Image.fromarray(background)
    draw = ImageDraw.Draw(picture)
    for index in range(4):
        left, top = int(random.integers(0, width * 2 // 3)), int(random.integers(0, height * 2 // 3))
        box = (left, top, left + width // 3, top + height // 3)
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        (draw.ellipse if index % 2 else draw.rectangle)(box, fill=colour)
    return picture


def document(width: int, height: int, words: list[str]) -> Image.Image:
    """Black words on white paper, one a line."""
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    for index, word in enumerate(words):
        draw.text((4, 4 + 12 * index), word, fill="black")
    return page


def waveform(seconds: float, rate: int = RATE, pitch: float = 220.0) -> Waveform:
    """A decaying chord with a little seeded noise, between -1 and 1."""
    time = np.arange(int(seconds * rate)) / rate
    chord = sum(np.sin(2 * np.pi * pitch * ratio * time) for ratio in (1.0, 1.5, 2.25))
    noise = np.random.default_rng(int(pitch)).normal(0.0, 0.05, time.size)
    return np.asarray(0.25 * chord * np.exp(-time) + noise, dtype=np.float32)


@functools.cache
def _scratch() -> Path:
    directory = tempfile.TemporaryDirectory(prefix="samples-")
    atexit.register(directory.cleanup)
    return Path(directory.name)


@functools.cache
def video(frames: int, width: int = 64, height: int = 48, seed: int = 0) -> Path:
    """An MP4 file of a shape that moves; it lies in a directory that goes away with the process."""
    import av

    path = _scratch() / f"{frames}-{width}x{height}-{seed}.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            picture = image(width, height, seed)
            ImageDraw.Draw(picture).ellipse((4 * index, 4, 4 * index + 16, 20), fill="red")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        container.mux(stream.encode())
    return path


def texts() -> list[Sample]:
    return [
        Sample(("Lovely.",)),
        Sample(("The service was quick and friendly, but the soup was cold and far too salty.",)),
        Sample(("We walked along the harbour in Lisbon.",)),
    ]


def translations() -> list[Sample]:
    """From English to languages that mBART has tokens for."""
    languages = ("de_DE", "fr_XX", "ja_XX")
    return [
        Sample(each.args, {"src_lang": "en_XX", "tgt_lang": code})
        for each, code in zip(texts(), languages, strict=True)
    ]


def translations_of_nllb() -> list[Sample]:
    return [Sample(each.args, {"src_lang": "eng_Latn", "tgt_lang": "fra_Latn"}) for each in texts()]


def translations_of_m2m100() -> list[Sample]:
    return [Sample(each.args, {"src_lang": "en", "tgt_lang": "fr"}) for each in texts()]


def translations_to_german() -> list[Sample]:
    return [Sample(each.args, {"src_lang": "en", "tgt_lang": "de"}) for each in texts()]


def translations_to_french() -> list[Sample]:
    """The language of the text is the only one that the model reads."""
    return [Sample(each.args, {"tgt_lang": "fra"}) for each in texts()]


def named_entities() -> list[Sample]:
    return [
        Sample(("Maria bought apples.",)),
        Sample(("We walked along the harbour in Lisbon and Maria bought a kite.",)),
    ]


def masked_texts() -> list[Sample]:
    return [
        Sample(("The soup was [MASK].",)),
        Sample(("We walked along the [MASK] in Lisbon and Maria bought two red apples.",)),
    ]


def masked_texts_roberta() -> list[Sample]:
    return [Sample((sample.args[0].replace("[MASK]", "<mask>"),)) for sample in masked_texts()]


def prompts() -> list[Sample]:
    return [Sample(("The shell",)), Sample(("We walked along the harbour in Lisbon and Maria",))]


def conversations() -> list[Sample]:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Describe the picture."}]
    return [*prompts(), Sample((chat,))]


def labelled_texts() -> list[Sample]:
    return [
        Sample(("We took the boat to the island.",), {"candidate_labels": ["travel", "politics"]}),
        Sample(
            ("The wind came in from the sea, and the shell on the beach sang a low note.",),
            {"candidate_labels": ["music", "science", "sport"], "multi_label": True},
        ),
        Sample(
            ("The soup was cold.",),
            {"candidate_labels": ["food", "sport"], "hypothesis_template": "This text is about {}."},
        ),
    ]


def tables() -> list[Sample]:
    actors = {"actor": ["brad pitt", "george clooney"], "movies": ["87", "69"]}
    invoices = {
        "invoice": ["4711", "4712", "4713"],
        "date": ["12 May", "13 May", "14 May"],
        "total": ["10", "20", "30"],
    }
    return [
        Sample(({"table": actors, "query": "how many movies did george clooney make?"},)),
        Sample(({"table": invoices, "query": "what is the total?"},)),
    ]


def decisions() -> list[Sample]:
    refund = {"type": "noul", "instructions": "Is a refund requested?"}
    topic = {
        "type": "choice",
        "instructions": "What is it about?",
        "criteria": {"billing": "money", "delivery": "parcels", "other": "anything else"},
    }
    mood = {"type": "score", "instructions": "How angry?", "criteria": ["calm", "annoyed", "furious"]}
    return [
        Sample(({"state": "I was charged twice.", "questions": {"refund": refund}},)),
        Sample(({"state": "Where is my parcel? It is late again.", "questions": {"topic": topic, "mood": mood}},)),
    ]


def images() -> list[Sample]:
    return [Sample((image(48, 36),)), Sample((image(80, 100, seed=1),)), Sample((image(64, 64, seed=2),))]


def images_for_segments() -> list[Sample]:
    """With limits so low that each image has segments: of eight queries one has more than a tenth of its mask."""
    low = {"threshold": 0.3, "overlap_mask_area_threshold": 0.1}
    return [Sample(sample.args, low) for sample in images()]


def images_for_pixels() -> list[Sample]:
    """Whose pixels are asked for their classes."""
    return [Sample(sample.args, {"subtask": "semantic"}) for sample in images()]


def crowded_images() -> list[Sample]:
    """With few points to look at: each costs as much as a small image."""
    few = {"points_per_crop": 6, "points_per_batch": 16}
    return [Sample((image(48, 36),), few), Sample((image(80, 100, seed=1),), few)]


def image_pairs() -> list[Sample]:
    return [
        Sample(([image(96, 72), image(80, 80, seed=1)],)),
        Sample(([image(64, 64, seed=2), image(64, 64, seed=2).rotate(10)],)),
    ]


def labelled_images() -> list[Sample]:
    return [
        Sample((image(48, 36),), {"candidate_labels": ["a cat", "a large green circle"]}),
        Sample((image(80, 100, seed=1),), {"candidate_labels": ["a boat", "a blue kite", "a purple star"]}),
    ]


def documents() -> list[Sample]:
    """Words with their boxes, in thousandths of the page's width and height."""
    receipt = ["invoice", "number", "4711", "total", "87"]
    letter = ["Dear", "Maria", "the", "date", "is", "12", "May", "2024", "and", "the", "total", "is", "69"]
    return [
        Sample(
            (document(80, 100, receipt), "What is the invoice number?", _boxes(receipt)),
        ),
        Sample((document(120, 200, letter), "What is the date?", _boxes(letter))),
    ]


def _boxes(words: list[str]) -> list[tuple[str, list[int]]]:
    return [(word, [40, 30 + 60 * index, 40 + 40 * len(word), 80 + 60 * index]) for index, word in enumerate(words)]


def documents_without_words() -> list[Sample]:
    return [Sample(sample.args[:2]) for sample in documents()]


def image_conversations() -> list[Sample]:
    return [
        Sample((), {"text": _about(image(48, 36), "What is this?")}),
        Sample((), {"text": _about(image(80, 100, seed=1), "Describe the picture: how many cats are on the sofa?")}),
        Sample((), {"images": image(64, 64, seed=2), "text": "<image>\nA photo of"}),
    ]


def _about(picture: Image.Image, question: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}]


def captions() -> list[Sample]:
    return [
        Sample((), {"images": image(48, 36), "text": "a photo of"}),
        Sample((), {"images": image(80, 100, seed=1), "text": "there are two"}),
    ]


def audio_and_text() -> list[Sample]:
    mark = "<|audio_bos|><|AUDIO|><|audio_eos|>"
    return [
        Sample((), {"text": f"{mark}What is this?", "audio": waveform(0.6)}),
        Sample((), {"text": f"Listen: {mark} is this the sound of a dog?", "audio": waveform(1.1, pitch=330)}),
        Sample((), {"text": "We walked along the harbour"}),
    ]


def sounds() -> list[Sample]:
    return [
        Sample(({"raw": waveform(0.6), "sampling_rate": RATE},)),
        Sample(({"raw": waveform(1.1, pitch=330), "sampling_rate": RATE},)),
    ]


def labelled_sounds() -> list[Sample]:
    """Bare arrays: this pipeline takes no sampling rate, it believes its feature extractor's."""
    return [
        Sample((waveform(0.6, CLAP_RATE),), {"candidate_labels": ["sound of a dog", "sound of rain"]}),
        Sample((waveform(1.1, CLAP_RATE, 330),), {"candidate_labels": ["a bell", "a low note", "the wind"]}),
    ]


SPEECH_SEED = 5
"""What everything that is drawn for a sound follows from, text by text."""
SPEAKER = 10
"""Numbers in the vector of who speaks."""


def speakable_texts() -> list[Sample]:
    return [Sample(("hello shell",)), Sample(("the wind came in from the sea, and sang a low note.",))]


def spoken_texts() -> list[Sample]:
    """Texts, and the vector of who speaks them."""
    import torch

    speakers = np.random.default_rng(3).normal(size=(2, SPEAKER)).astype(np.float32)
    vectors = [{"speaker_embeddings": torch.from_numpy(speaker)[None]} for speaker in speakers]
    return [
        Sample(text.args, {"forward_params": forward}) for text, forward in zip(speakable_texts(), vectors, strict=True)
    ]


def videos() -> list[Sample]:
    return [Sample((str(video(6)),)), Sample((str(video(10, 80, 64, seed=1)),))]


def sentences() -> list[Sample]:
    return [Sample((sample.args[0],)) for sample in texts()]


def queries() -> list[Sample]:
    """A query and the texts to rank for it."""
    texts = ["Two red apples.", "The soup was cold and far too salty.", "A blue kite."]
    return [Sample(("what did Maria buy?", texts)), Sample(("how was the soup?", texts[:2]))]
