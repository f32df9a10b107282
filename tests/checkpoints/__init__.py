"""Tiny random-weight HuggingFace checkpoints, made on the spot and offline, for every task of transformers' pipelines.

    directory = build("zero-shot-image-classification", tmp_path)
    pipe = transformers.pipeline("zero-shot-image-classification", model=str(directory))
    for sample in sample_inputs("zero-shot-image-classification"):
        pipe(*sample.args, **sample.kwargs)

A checkpoint's name is its task for the task's first family, `task.family` for further ones. Weights are seeded:
the same name gives the same checkpoint. Importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import samples
from .samples import Sample

__all__ = [
    "ARCHITECTURES",
    "TASKS",
    "Checkpoint",
    "Sample",
    "build",
    "missing",
    "pipeline_kwargs",
    "reference",
    "sample_inputs",
]


@dataclass(frozen=True)
class Checkpoint:
    """One row of the table.

    Attributes:
        task: the pipeline's task, or the Hub's name of it for the models that run in sentence-transformers.
        family: the model's architecture.
        module: the module of this package whose function `task_family`, or whose table at "task.family", writes the
            checkpoint.
        samples: makes the inputs.
        pipeline_kwargs: what `transformers.pipeline` is given beside the task and the directory.
        requires: packages beyond torch, transformers and pillow without which transformers cannot run the task.
        library: "transformers", "sentence-transformers", or "text-to-text" for what transformers has no pipeline of.
    """

    task: str
    family: str
    module: str
    samples: Callable[[], list[Sample]]
    pipeline_kwargs: Mapping[str, Any] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    library: str = "transformers"

    def write(self, directory: Path) -> None:
        """Make the files."""
        import torch

        name = f"{self.task}_{self.family}".replace("-", "_")
        module = importlib.import_module(f".{self.module}", __name__)
        recipes: Mapping[str, Callable[[Path], None]] = getattr(module, "RECIPES", {})
        function = recipes.get(f"{self.task}.{self.family}") or getattr(module, name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # for the few parameters that keep the values they were initialised with
            function(directory)


_ROWS = (
    Checkpoint("any-to-any", "qwen2-audio", "multimodal", samples.audio_and_text),
    Checkpoint("audio-classification", "wav2vec2", "audio", samples.sounds),
    Checkpoint("audio-classification", "ast", "audio", samples.sounds),
    Checkpoint("automatic-speech-recognition", "wav2vec2", "audio", samples.sounds),
    Checkpoint("automatic-speech-recognition", "whisper", "audio", samples.sounds),
    Checkpoint("decision", "llama", "text", samples.decisions),
    Checkpoint("depth-estimation", "dpt", "vision", samples.images),
    Checkpoint("document-question-answering", "layoutlm", "multimodal", samples.documents),
    Checkpoint("document-question-answering", "donut", "multimodal", samples.documents_without_words),
    Checkpoint("feature-extraction", "bert", "text", samples.texts),
    Checkpoint("fill-mask", "bert", "text", samples.masked_texts),
    Checkpoint("fill-mask", "roberta", "text", samples.masked_texts_roberta),
    Checkpoint("image-classification", "vit", "vision", samples.images),
    Checkpoint("image-classification", "convnext", "vision", samples.images),
    Checkpoint("image-feature-extraction", "vit", "vision", samples.images),
    Checkpoint("image-feature-extraction", "dinov2", "vision", samples.images),
    Checkpoint("image-segmentation", "segformer", "vision", samples.images),
    Checkpoint("image-segmentation", "detr", "vision", samples.images),
    Checkpoint("image-text-to-text", "llava", "multimodal", samples.image_conversations),
    Checkpoint("image-text-to-text", "git", "multimodal", samples.captions),
    Checkpoint("keypoint-matching", "superglue", "vision", samples.image_pairs),
    Checkpoint("mask-generation", "sam", "vision", samples.crowded_images),
    Checkpoint("object-detection", "yolos", "vision", samples.images),
    Checkpoint("object-detection", "detr", "vision", samples.images),
    Checkpoint("summarization", "pegasus", "writers", samples.texts, library="text-to-text"),
    Checkpoint("table-question-answering", "tapas", "text", samples.tables, requires=("pandas",)),
    Checkpoint("text-classification", "bert", "text", samples.texts),
    Checkpoint("text-classification", "distilbert", "text", samples.texts),
    Checkpoint("text-classification", "multi-label", "text", samples.texts),
    Checkpoint("text-classification", "regression", "text", samples.texts),
    Checkpoint("text2text-generation", "t5", "writers", samples.texts, library="text-to-text"),
    Checkpoint("text-generation", "llama", "text", samples.conversations),
    Checkpoint("text-generation", "qwen2", "text", samples.conversations),
    Checkpoint("text-generation", "gpt2", "text", samples.prompts),
    Checkpoint("text-to-audio", "vits", "audio", samples.speakable_texts),
    Checkpoint("token-classification", "bert", "text", samples.named_entities),
    Checkpoint("translation", "mbart", "writers", samples.translations, library="text-to-text"),
    Checkpoint("video-classification", "videomae", "vision", samples.videos, requires=("av",)),
    Checkpoint("zero-shot-audio-classification", "clap", "audio", samples.labelled_sounds),
    Checkpoint("zero-shot-classification", "bart", "text", samples.labelled_texts),
    Checkpoint("zero-shot-classification", "bert", "text", samples.labelled_texts),
    Checkpoint("zero-shot-image-classification", "clip", "multimodal", samples.labelled_images),
    Checkpoint("zero-shot-image-classification", "siglip", "multimodal", samples.labelled_images),
    Checkpoint("zero-shot-object-detection", "owlvit", "multimodal", samples.labelled_images),
    Checkpoint("sentence-similarity", "bert", "text", samples.sentences, library="sentence-transformers"),
    Checkpoint("text-ranking", "bert", "text", samples.queries, library="sentence-transformers"),
)


def _families(
    task: str, module: str, make_samples: Callable[[], list[Sample]], names: str, library: str = "transformers"
) -> tuple[Checkpoint, ...]:
    """One row a name, all of one task and module."""
    return tuple(Checkpoint(task, name, module, make_samples, library=library) for name in names.split())


_FURTHER = (
    *_families(
        "text-classification",
        "encoders",
        samples.texts,
        "roberta albert electra deberta-v2 modernbert xlnet t5 funnel mobilebert convbert qwen3 longformer",
    ),
    *_families("fill-mask", "encoders", samples.masked_texts, "distilbert albert"),
    *_families("fill-mask", "encoders", samples.masked_texts_roberta, "camembert modernbert"),
    *_families("token-classification", "encoders", samples.named_entities, "roberta xlm-roberta deberta-v2 electra"),
    *_families("feature-extraction", "encoders", samples.texts, "mpnet fnet nystromformer gpt2"),
    *_families("zero-shot-classification", "encoders", samples.labelled_texts, "roberta deberta-v2"),
    *_families("text-ranking", "encoders", samples.queries, "xlm-roberta modernbert", "sentence-transformers"),
    *_families(
        "sentence-similarity",
        "encoders",
        samples.sentences,
        "mpnet xlm-roberta distilbert qwen3",
        "sentence-transformers",
    ),
    *_families(
        "text-generation",
        "decoders",
        samples.conversations,
        "mistral mixtral qwen3 phi3 gemma2 opt bloom gpt-neox falcon mamba",
    ),
    *_families(
        "image-classification",
        "cameras",
        samples.images,
        "deit beit swin swinv2 resnet regnet mobilenet-v2 dinov2 convnextv2 vit-msn pvt-v2 siglip",
    ),
    *_families("image-feature-extraction", "cameras", samples.images, "swin beit"),
    *_families("image-segmentation", "cameras", samples.images, "beit mobilevit upernet maskformer mask2former eomt"),
    *_families("image-segmentation", "cameras", samples.images_for_segments, "oneformer"),
    *_families("image-segmentation", "cameras", samples.images_for_pixels, "eomt-semantic"),
    *_families(
        "object-detection",
        "cameras",
        samples.images,
        "rt-detr d-fine conditional-detr deformable-detr table-transformer",
    ),
    *_families("keypoint-matching", "cameras", samples.image_pairs, "efficientloftr"),
    *_families("depth-estimation", "cameras", samples.images, "depth-anything glpn zoedepth"),
    *_families("audio-classification", "listeners", samples.sounds, "hubert wavlm whisper"),
    *_families("automatic-speech-recognition", "listeners", samples.sounds, "hubert unispeech"),
    *_families("zero-shot-image-classification", "listeners", samples.labelled_images, "siglip2 align chinese-clip"),
    *_families("zero-shot-object-detection", "listeners", samples.labelled_images, "owlv2 grounding-dino"),
    *_families("text-to-audio", "players", samples.speakable_texts, "musicgen bark"),
    Checkpoint("text-to-audio", "speecht5", "players", samples.spoken_texts, requires=("sentencepiece",)),
    *_families("image-text-to-text", "listeners", samples.captions, "blip"),
    *_families("text2text-generation", "writers", samples.texts, "bart umt5", "text-to-text"),
    *_families("summarization", "writers", samples.texts, "t5", "text-to-text"),
    Checkpoint("translation", "t5", "writers", samples.translations_to_german, library="text-to-text"),
    Checkpoint("translation", "nllb", "writers", samples.translations_of_nllb, library="text-to-text"),
    Checkpoint(
        "translation",
        "marian",
        "writers",
        samples.translations_to_french,
        requires=("sentencepiece",),
        library="text-to-text",
    ),
    Checkpoint(
        "translation",
        "m2m100",
        "writers",
        samples.translations_of_m2m100,
        requires=("sentencepiece",),
        library="text-to-text",
    ),
    Checkpoint("video-classification", "timesformer", "cameras", samples.videos, requires=("av",)),
    Checkpoint("video-classification", "vivit", "cameras", samples.videos, requires=("av",)),
)


def _named(rows: tuple[Checkpoint, ...]) -> Mapping[str, Checkpoint]:
    table: dict[str, Checkpoint] = {}
    for row in rows:
        table[f"{row.task}.{row.family}" if row.task in table else row.task] = row
    return MappingProxyType(table)


TASKS: Mapping[str, Checkpoint] = _named(_ROWS)
"""Name -> checkpoint, for every task transformers' `pipeline()` knows and the two of sentence-transformers."""

ARCHITECTURES: Mapping[str, Checkpoint] = _named(_ROWS + _FURTHER)
"""Those and further architectures, for what should hold of all of them."""


def build(task: str, directory: Path) -> Path:
    """Write the checkpoint called `task` into `directory / task` and return that; what is there already stays.

    Raises:
        KeyError: no checkpoint has that name.
    """
    checkpoint, target = ARCHITECTURES[task], directory / task
    if not target.exists():
        checkpoint.write(target)
    return target


def sample_inputs(task: str) -> list[Sample]:
    """New samples for the checkpoint called `task`: at least two."""
    return ARCHITECTURES[task].samples()


def pipeline_kwargs(task: str) -> dict[str, Any]:
    """What `transformers.pipeline` wants beside the task and the directory."""
    return dict(ARCHITECTURES[task].pipeline_kwargs)


def missing(task: str) -> list[str]:
    """The packages that the task needs and this Python does not have."""
    return [package for package in ARCHITECTURES[task].requires if importlib.util.find_spec(package) is None]


def _drawn(pipe: Any, sample: Sample) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(samples.SPEECH_SEED)
        return pipe(*sample.args, **sample.kwargs)


def reference(task: str, directory: Path) -> list[Any]:
    """The answers of the library the checkpoint is for, one a sample: the truth a deployed model is compared with."""
    checkpoint = ARCHITECTURES[task]
    if checkpoint.library == "transformers":
        import transformers

        make: Callable[..., Any] = transformers.pipeline
        more = dict(checkpoint.pipeline_kwargs)
        if (directory / "vocoder").is_dir():
            more["vocoder"] = transformers.SpeechT5HifiGan.from_pretrained(directory / "vocoder")
        pipe = make(checkpoint.task, model=str(directory), device="cpu", **more)
        from conch.deploy.reference import complete

        complete(pipe)
        if checkpoint.task == "text-to-audio":
            return [_drawn(pipe, sample) for sample in checkpoint.samples()]
        return [pipe(*sample.args, **sample.kwargs) for sample in checkpoint.samples()]
    if checkpoint.library == "text-to-text":
        from .writers import reference as write_anew

        return [write_anew(checkpoint.task, directory, *each.args, **each.kwargs) for each in checkpoint.samples()]
    import sentence_transformers

    if checkpoint.task == "sentence-similarity":
        embedder = sentence_transformers.SentenceTransformer(str(directory), device="cpu")
        return [embedder.encode(*sample.args) for sample in checkpoint.samples()]
    ranker = sentence_transformers.CrossEncoder(str(directory), device="cpu")
    calls = [sample.args for sample in checkpoint.samples()]
    return [ranker.predict([(query, text) for text in texts]) for query, texts in calls]
