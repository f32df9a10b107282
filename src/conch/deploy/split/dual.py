"""Splits of dual encoders: two towers that run side by side, and their products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import torch

from conch.deploy.split.audio import sound_inputs, sound_part
from conch.deploy.split.axes import answers
from conch.deploy.split.heads import Flattened, Keyword, Similarity, Tower
from conch.deploy.split.image import core_part, image_part, network_of, pixel_inputs
from conch.deploy.split.network import Network
from conch.deploy.split.parts import CannotSplit, CorePart, PaddedAxis, Part, Split
from conch.deploy.split.stages import rank_part, tokenize_part
from conch.deploy.split.subject import Subject, constants, model_inputs
from conch.deploy.split.tokenizer import Tokenization
from conch.deploy.split.tokens import MASK, labelled_token_samples, token_axes, token_padding, token_specs
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

#: The medium and the texts are prepared side by side: the texts' part alone refuses parameters that are wrong, for a
#: Triton may die of an ensemble of which two steps fail at once.
PARAMETERS_ELSEWHERE = (("reads_parameters", "false", "the part that prepares the texts reads them"),)
#: SigLIP was trained on texts padded to 64 tokens.
_SIGLIP_TOKENS = 64


def zero_shot_image_classification(subject: Subject) -> Split:
    inputs, samples = pixel_inputs(subject.pipe.image_processor, _method(subject.model, "get_image_features"))
    preprocess = image_part(subject, inputs, suffix="image_preprocess", settings=PARAMETERS_ELSEWHERE)
    tower = _tower(subject, "get_image_features", [spec.name for spec in inputs])
    network = network_of(tower, inputs, ["image_embeds"], samples)
    encoder = core_part(network, "image_encoder", "images to vectors")
    return _split(subject, preprocess, encoder, "logits_per_image")


def zero_shot_audio_classification(subject: Subject) -> Split:
    inputs, samples = sound_inputs(subject.pipe.feature_extractor, _method(subject.model, "get_audio_features"))
    preprocess = sound_part(subject, inputs, suffix="audio_preprocess", settings=PARAMETERS_ELSEWHERE)
    tower = _tower(subject, "get_audio_features", [spec.name for spec in inputs])
    network = network_of(tower, inputs, ["audio_embeds"], samples)
    encoder = core_part(network, "audio_encoder", "sounds to vectors")
    return _split(subject, preprocess, encoder, "logits_per_audio")


def _split(subject: Subject, preprocess: Part, encoder: CorePart, logits: str) -> Split:
    """The split whose medium is prepared by `preprocess` and `encoder`."""
    siglip = "siglip" in subject.model.config.model_type
    text_preprocess, text_encoder = _text_parts(subject, siglip=siglip)
    similarity = _similarity_part(subject, encoder.outputs[0], logits, siglip=siglip)
    _prove_products(subject, encoder, text_encoder, similarity, logits)
    labels = next(spec for spec in text_preprocess.outputs if spec.name == "labels")
    rank = rank_part(subject, [next(spec for spec in similarity.outputs if spec.name == "probs"), labels], ["json"])
    return Split((preprocess, encoder, text_preprocess, text_encoder, similarity, rank))


def _method(model: Any, name: str) -> Any:
    method = getattr(model, name, None)
    if method is None:
        raise CannotSplit(f"{type(model).__name__} has no {name}: its towers do not run apart")
    return method


def _tower(subject: Subject, method: str, names: Sequence[str]) -> Tower:
    call = _method(subject.model, method)
    return Tower(Keyword(subject.model, names, constants(call), method), len(names))


def _text_parts(subject: Subject, *, siglip: bool) -> tuple[Part, CorePart]:
    tokenizer = subject.pipe.tokenizer
    taken = model_inputs(tokenizer.model_input_names, _method(subject.model, "get_text_features"))
    # The mask says which rows are padding of the labels, whether the tower takes it or not.
    names = taken if MASK in taken else (*taken, MASK)
    tower = Flattened(_tower(subject, "get_text_features", taken), names.index(MASK))
    samples = labelled_token_samples(tokenizer, names, pad_to=_SIGLIP_TOKENS if siglip else 0)
    inputs = token_specs(names, many=True)
    dimension = answers(tower, names, samples[:1])[0][0].shape[-1]
    embeds = TensorSpec("text_embeds", DataType.FP32, (-1, dimension), "a unit vector a text; 0 for padding")
    axes = token_axes(names, many=True) | {"text_embeds": {0: "batch", 1: "texts"}}
    padding = token_padding(names, tokenizer, many=True, cut={"texts": {"text_embeds": 0}})
    if siglip:
        inputs = tuple(msgspec.structs.replace(spec, dims=(-1, _SIGLIP_TOKENS)) for spec in inputs)
        axes = {name: {axis: symbol for axis, symbol in each.items() if axis < 2} for name, each in axes.items()}
        padding = tuple(axis for axis in padding if axis.symbol == "texts")
    encoder = CorePart(
        suffix="text_encoder",
        stage="core",
        summary="texts to vectors",
        inputs=inputs,
        outputs=(embeds,),
        network=Network(tower.eval(), inputs, (embeds,), axes, tuple(samples)),
        padding=padding,
        cached=True,
    )
    labels = TensorSpec("labels", DataType.BYTES, (-1,), "the texts as they came")
    tokenization = Tokenization(
        reads="texts", truncation="longest_first" if siglip else "", pad_to=_SIGLIP_TOKENS if siglip else 0
    )
    # Not cached: Triton's cache does not look at request parameters, and hypothesis_template changes the tokens.
    preprocess = tokenize_part(subject, names, tokenization, suffix="text_preprocess", extra=[labels])
    tokens = {spec.name: spec for spec in inputs}
    outputs = tuple(tokens.get(spec.name, spec) for spec in preprocess.outputs)
    return msgspec.structs.replace(preprocess, outputs=outputs), encoder


def _similarity_part(subject: Subject, medium: TensorSpec, logits: str, *, siglip: bool) -> CorePart:
    size = medium.dims[0]
    texts = TensorSpec("text_embeds", DataType.FP32, (-1, size), "a unit vector a text; 0 for padding")
    outputs = [next(spec for spec in subject.plan.outputs if spec.name == name) for name in (logits, "probs")]
    random = np.random.default_rng(0)
    samples = []
    for batch, count in ((2, 3), (1, 1), (3, 5)):
        vectors = random.normal(size=(batch, count + 1, int(size))).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        own = {medium.name: vectors[:, 0], texts.name: np.ascontiguousarray(vectors[:, 1:])}
        own[texts.name][0, count - 1 if count > 1 else count :] = 0  # padding
        samples.append(own)
    axes = {medium.name: {0: "batch"}, texts.name: {0: "batch", 1: "texts"}}
    axes |= {spec.name: {0: "batch", 1: "texts"} for spec in outputs}
    module = Similarity(*_scale_and_bias(subject.model), sigmoid=siglip).eval()
    inputs = (msgspec.structs.replace(medium, doc="a unit vector"), texts)
    return CorePart(
        suffix="similarity",
        stage="core",
        summary="products of the vectors, and what they mean",
        inputs=inputs,
        outputs=tuple(outputs),
        network=Network(module, inputs, tuple(outputs), axes, tuple(samples)),
        padding=(PaddedAxis("texts", {texts.name: (0, 0.0)}, {spec.name: 0 for spec in outputs}),),
    )


def _scale_and_bias(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What the product of unit vectors is multiplied with, and what is added."""
    for name in ("logit_scale", "logit_scale_a"):
        if hasattr(model, name):
            scale = getattr(model, name).exp()
            return scale, getattr(model, "logit_bias", torch.zeros(1))
    if hasattr(model, "temperature"):
        return 1 / model.temperature, torch.zeros(1)
    raise CannotSplit(f"{type(model).__name__} has no logit_scale: how its vectors become logits is not known")


def _prove_products(
    subject: Subject, encoder: CorePart, text_encoder: CorePart, similarity: CorePart, logits: str
) -> None:
    """Raise CannotSplit unless towers and products give the logits of the whole model."""
    medium, texts = encoder.network.samples[-1], text_encoder.network.samples[1]
    (vector,) = answers(encoder.network.module, [spec.name for spec in encoder.inputs], [medium])[0]
    (vectors,) = answers(text_encoder.network.module, [spec.name for spec in text_encoder.inputs], [texts])[0]
    with torch.inference_mode():
        got, _ = similarity.network.module(torch.from_numpy(vector), torch.from_numpy(vectors))
        tokens = model_inputs(subject.pipe.tokenizer.model_input_names, subject.model)
        arguments = {**medium, **{name: texts[name][0] for name in tokens}}
        whole = {name: torch.from_numpy(array) for name, array in arguments.items()}
        want = getattr(subject.model(**whole), logits).float()
    if want.shape != got.shape or not torch.allclose(got, want, rtol=1e-3, atol=1e-3):
        raise CannotSplit(f"the towers of {type(subject.model).__name__} do not give its {logits}")
