"""Which splitter breaks which task apart."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from conch.deploy.split.parts import CannotSplit, DoesNotApply, PythonPart, Split
from conch.deploy.split.subject import Subject

logger = logging.getLogger(__name__)

Splitter = Callable[[Subject], Split]

#: Task -> "module:function" of this package, tried in this order: the first that can wins. The modules import torch.
_SPLITTERS: Mapping[str, tuple[str, ...]] = {
    "sentence-embedding": ("text:sentence_embedding",),
    "feature-extraction": ("text:feature_extraction", "generic:whole_pipeline"),
    "text-classification": ("text:text_classification", "generic:whole_pipeline"),
    "text-ranking": ("text:text_ranking",),
    "zero-shot-classification": ("text:zero_shot_classification",),
    "fill-mask": ("text:fill_mask", "generic:whole_pipeline"),
    "token-classification": ("text:token_classification",),
    "image-classification": ("image:image_classification", "generic:classification"),
    "image-feature-extraction": ("image:image_feature_extraction", "generic:whole_pipeline"),
    "video-classification": ("video:video_classification", "generic:classification"),
    "audio-classification": ("audio:audio_classification", "generic:classification"),
    "zero-shot-audio-classification": ("dual:zero_shot_audio_classification",),
    "object-detection": ("detection:object_detection", "generic:whole_pipeline"),
    "image-segmentation": (
        "segmentation_parts:image_segmentation",
        "segmentation:image_segmentation",
        "generic:whole_pipeline",
    ),
    "depth-estimation": ("depth:depth_estimation", "generic:whole_pipeline"),
    "mask-generation": ("mask_generation:mask_generation",),
    "keypoint-matching": ("generic:whole_pipeline",),
    "decision": ("decision:decision",),
    "text-generation": ("generation:text_generation", "generation:generation"),
    "image-text-to-text": ("image_prompts:image_prompts", "generation:generation"),
    "any-to-any": ("sound_prompts:sound_prompts", "generation:generation"),
    **dict.fromkeys(
        ("text2text-generation", "summarization", "translation"),
        ("text_to_text:light", "text_to_text:own_tokenizer"),
    ),
    "automatic-speech-recognition": (
        "ctc:spelled_speech",
        "speech:speech",
        "generation:generation",
        "generic:whole_pipeline",
    ),
    "table-question-answering": ("tables:table_question_answering", "generic:whole_pipeline"),
    "text-to-audio": ("voice:text_to_audio", "voice:generated", "generic:whole_pipeline"),
    "document-question-answering": (
        "document:document_question_answering",
        "written_answers:written_answers",
        "generation:generation",
        "generic:whole_pipeline",
    ),
    "zero-shot-object-detection": ("text_queries:zero_shot_object_detection", "generic:whole_pipeline"),
    "zero-shot-image-classification": ("dual:zero_shot_image_classification",),
}

#: Modules of splits whose models write token after token.
_GENERATE = ("generation", "speech", "image_prompts", "sound_prompts", "text_to_text", "written_answers")

#: Why networks that hold a module of these classes are not exported: no exporter follows what they do, or they cannot
#: take batches.
_NOT_FOLLOWED: Mapping[str, str] = {
    "SuperGlueForKeypointMatching": "its keypoint detector takes images one by one and finds another number of points "
    "in each: sizes in an exported network follow from those of its inputs",
    "LightGlueForKeypointMatching": "its keypoint detector finds another number of points in each image, and how many "
    "layers it runs depends on how sure it is: an exported network has one way",
    "EfficientLoFTRForKeypointMatching": "of a batch of pairs it mixes which points match: only one pair at a time is "
    "answered rightly",
    "FunnelAttentionStructure": "how often it pools depends on the length of each text: an exported network takes the "
    "way of the text it was exported with",
}

#: Tasks whose softmax or sigmoid may also run after the network, in Python.
FOLDED = frozenset({"text-classification", "image-classification", "audio-classification"})


def split(subject: Subject) -> Split:
    """Break a pipeline apart.

    Raises:
        CannotSplit: no splitter of the task can; the text gives the reason of each.
    """
    plan = subject.plan
    if plan.max_batch_size == 0:
        raise CannotSplit("--max-batch-size 0: the core has a batch dimension")
    if reason := not_followed(subject.model):
        raise CannotSplit(reason)
    padded = importlib.import_module("conch.deploy.split.padded")
    reasons: dict[str, None] = {}
    notes: dict[str, None] = {}
    for name in _SPLITTERS.get(plan.task.name, ()):
        module, function = name.split(":")
        splitter: Splitter = getattr(importlib.import_module(f"conch.deploy.split.{module}"), function)
        try:
            found: Split = padded.with_exact_padding(splitter(subject))
            return msgspec.structs.replace(found, notes=(*found.notes, *notes, *_heavy(found), *_large(found)))
        except CannotSplit as error:
            reasons[str(error)] = None
            if not isinstance(error, DoesNotApply):
                notes[f"parts that need no transformers are not possible: {error}"] = None
        except Exception as error:  # a library's step, on a model nobody has tried: approach 1 may serve it yet
            logger.debug("%s failed", name, exc_info=error)
            reasons[f"{name} failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"] = None
    raise CannotSplit("; ".join(reasons) or f"nothing breaks {plan.task.name} apart")


def _heavy(found: Split) -> tuple[str, ...]:
    """What to know of the parts around the network that keep the pipeline's own steps."""
    own = ("pipeline_preprocess.py", "pipeline_postprocess.py")
    heavy = [part.suffix for part in found.parts if isinstance(part, PythonPart) and part.template in own]
    if not heavy:
        return ()
    these = "its process imports" if len(heavy) == 1 else "their processes import"
    return (f"{' and '.join(heavy)}: the pipeline's own steps; {these} torch and transformers (some 400 MB each)",)


def _large(found: Split) -> tuple[str, ...]:
    """What to know of the parts whose vocabulary stays in the tokenizers library, by reason."""
    parts: dict[str, list[str]] = {}
    for part in found.parts:
        if isinstance(part, PythonPart) and "tokenizer_settings.json" in part.contents:
            reason = json.loads(part.contents["tokenizer_settings.json"]).get("kept_vocabulary", "")
            parts.setdefault(reason, []).append(part.suffix)
    parts.pop("", None)
    return tuple(
        f"{' and '.join(suffixes)}: the tokenizers library holds the vocabulary (some 2 KB of memory a piece): {reason}"
        for reason, suffixes in parts.items()
    )


def not_followed(network: Any) -> str:
    """Why no exporter follows a network; "" if nothing is known against it."""
    modules: Iterable[Any] = getattr(network, "modules", tuple)()
    kinds = {type(module).__name__ for module in modules}
    return next((reason for kind, reason in _NOT_FOLLOWED.items() if kind in kinds), "")


def ways(task: str) -> tuple[str, ...]:
    """How a task is broken apart: "light", "pipeline's steps" or "generate", in the order they are tried; () if not."""
    kinds = {**dict.fromkeys(("generic", "decision"), "pipeline's steps"), **dict.fromkeys(_GENERATE, "generate")}
    modules = (name.partition(":")[0] for name in _SPLITTERS.get(task, ()))
    return tuple(dict.fromkeys(kinds.get(module, "light") for module in modules))
