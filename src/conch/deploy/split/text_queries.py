"""Splits of detectors that look for what texts say (OWL-ViT), around which nothing needs transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from conch.deploy.split.detection import detection_settings
from conch.deploy.split.dual import PARAMETERS_ELSEWHERE
from conch.deploy.split.heads import Keyword, TextQueries
from conch.deploy.split.image import image_part, pixel_inputs
from conch.deploy.split.network import Network
from conch.deploy.split.parts import CannotSplit, CorePart, DoesNotApply, Split
from conch.deploy.split.sized_image import IMAGE_SIZE
from conch.deploy.split.stages import python_part, tokenize_part
from conch.deploy.split.subject import Subject, constants
from conch.deploy.split.tokenizer import Tokenization
from conch.deploy.split.tokens import MASK, labelled_token_samples, token_axes, token_padding
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_PIXELS, _TOKENS = "pixel_values", ("input_ids", MASK)


def zero_shot_object_detection(subject: Subject) -> Split:
    """The image runs through the network once for all texts of a request."""
    if not hasattr(subject.model, "image_text_embedder"):
        raise DoesNotApply("its network takes one text at a time")
    settings = detection_settings(subject.pipe.image_processor)
    text_preprocess = tokenize_part(subject, _TOKENS, Tokenization(reads="texts"), suffix="text_preprocess")
    pixels, images = pixel_inputs(subject.pipe.image_processor, subject.model)
    if [(spec.name, -1 in spec.dims) for spec in pixels] != [(_PIXELS, False)]:
        raise CannotSplit(f"{type(subject.pipe.image_processor).__name__} makes images of many sizes")
    tokens = [spec for spec in text_preprocess.outputs if spec.name in _TOKENS]
    core = _core(subject, (*pixels, *tokens), images)
    texts = [spec for spec in subject.plan.inputs if spec.name == "text"]
    postprocess = python_part(
        subject,
        "postprocess",
        "find_texts.py",
        (*core.outputs, IMAGE_SIZE, *texts),
        subject.plan.outputs,
        summary="places of what the texts say",
        files=((), {"detection_settings.json": json.dumps(settings).encode()}),
    )
    image_preprocess = image_part(
        subject, (*pixels, IMAGE_SIZE), suffix="image_preprocess", settings=PARAMETERS_ELSEWHERE
    )
    return Split((image_preprocess, text_preprocess, core, postprocess))


def _core(subject: Subject, inputs: Sequence[TensorSpec], images: Sequence[dict[str, np.ndarray]]) -> CorePart:
    """The network; requests with unequal numbers of texts of unequal lengths share a batch."""
    tokenizer = subject.pipe.tokenizer
    network = Keyword(subject.model, [spec.name for spec in inputs], constants(subject.model))
    module = TextQueries(network, _TOKENS.index(MASK)).eval()
    rows = np.concatenate([each[_PIXELS] for each in images])
    samples = [{_PIXELS: rows[: len(tokens[MASK])], **tokens} for tokens in labelled_token_samples(tokenizer, _TOKENS)]
    places = int(subject.model.box_bias.shape[0])
    outputs = (
        TensorSpec("logits", DataType.FP32, (places, -1), "of each place, how much it is of each text"),
        TensorSpec("pred_boxes", DataType.FP32, (places, 4), "the box at each place"),
    )
    axes = token_axes(_TOKENS, many=True) | {
        _PIXELS: {0: "batch"},
        "logits": {0: "batch", 2: "texts"},
        "pred_boxes": {0: "batch"},
    }
    return CorePart(
        suffix="core",
        stage="core",
        summary="the network",
        inputs=tuple(inputs),
        outputs=outputs,
        network=Network(module, tuple(inputs), outputs, axes, tuple(samples)),
        padding=token_padding(_TOKENS, tokenizer, many=True, cut={"texts": {"logits": 1}}),
    )
