"""Splits of the tasks on text alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from torch import nn

from conch.deploy.split.axes import answers
from conch.deploy.split.heads import (
    Classifier,
    Embedding,
    Fields,
    Flattened,
    Keyword,
    MaskedTokens,
    Ranker,
    TokenStates,
)
from conch.deploy.split.network import Network
from conch.deploy.split.parts import CannotSplit, CorePart, PaddedAxis, Split
from conch.deploy.split.stages import (
    ACTIVATION,
    activation_setting,
    classify_part,
    python_part,
    rank_part,
    tokenize_part,
)
from conch.deploy.split.subject import Subject, constants, model_inputs
from conch.deploy.split.tokenizer import Tokenization
from conch.deploy.split.tokens import (
    MASK,
    labelled_token_samples,
    long_token_sample,
    token_axes,
    token_padding,
    token_samples,
    token_specs,
)
from conch.deploy.split.windows import follow_windows
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType


def text_network(subject: Subject) -> tuple[Keyword, tuple[str, ...]]:
    """The network of a task on texts, and the names of the token tensors it takes."""
    names = model_inputs(subject.pipe.tokenizer.model_input_names, subject.model)
    _needs_mask(names)
    return Keyword(subject.model, names, constants(subject.model)), names


def core(
    subject: Subject,
    module: nn.Module,
    names: Sequence[str],
    outputs: Sequence[TensorSpec],
    *,
    many: bool = False,
    extra: Mapping[TensorSpec, Sequence[float]] | None = None,
    first: str = "",
) -> CorePart:
    """The core of a text task.

    Args:
        outputs: their axes of size -1 are "sequence", or with `many` "texts" and "sequence", in this order.
        extra: further inputs [1], and the values to prove the export with.
        first: the first text of every pair in the samples.
    """
    tokenizer, extra = subject.pipe.tokenizer, extra or {}
    samples = labelled_token_samples(tokenizer, names, first) if many else token_samples(tokenizer, names)
    samples += _several_windows(module, tokenizer, names, many=many)
    for spec, values in extra.items():
        for number, sample in enumerate(samples):
            rows = [values[(number + row) % len(values)] for row in range(len(sample[MASK]))]
            sample[spec.name] = np.array(rows, spec.datatype.dtype)[:, None]
    symbols = ("texts", "sequence") if many else ("sequence",)
    varying = {spec.name: dict(zip(_varying(spec), symbols, strict=False)) for spec in outputs}
    axes = token_axes(names, many=many) | {spec.name: {0: "batch"} for spec in extra}
    axes |= {name: {0: "batch"} | {axis + 1: symbol for axis, symbol in each.items()} for name, each in varying.items()}
    cut = {
        symbol: {name: axis for name, each in varying.items() for axis, of_axis in each.items() if of_axis == symbol}
        for symbol in symbols
    }
    inputs = (*token_specs(names, many=many), *extra)
    network = Network(
        module=module.eval(), inputs=inputs, outputs=tuple(outputs), axes=axes, samples=tuple(samples), mask=MASK
    )
    return CorePart(
        suffix="core",
        stage="core",
        summary="the network",
        inputs=inputs,
        outputs=tuple(outputs),
        network=network,
        padding=token_padding(names, tokenizer, many=many, cut=cut),
    )


def _several_windows(
    module: nn.Module, tokenizer: Any, names: Sequence[str], *, many: bool = False
) -> list[dict[str, np.ndarray]]:
    """A text of several windows for a network that has such, which is made to be exported."""
    window = follow_windows(module)
    return [dict(long_token_sample(tokenizer, names, 2 * window + 3, many=many))] if window else []


def _varying(spec: TensorSpec) -> list[int]:
    return [axis for axis, dim in enumerate(spec.dims) if dim == -1]


def sentence_embedding(subject: Subject) -> Split:
    """Pooling, projections and normalisation of sentence-transformers are part of the graph."""
    transformer = subject.pipe[0].model
    names = model_inputs(subject.pipe.tokenizer.model_input_names, transformer)
    _needs_mask(names)
    settings = subject.settings
    dense = nn.Sequential(
        *(each for module in subject.pipe if hasattr(module, "linear") for each in _projection(module))
    )
    module = Embedding(
        Keyword(transformer, names, constants(transformer)), names.index(MASK), settings["pooling"].split(","), dense
    )
    normalize = TensorSpec("normalize", DataType.BOOL, (1,), "scale the vector to length 1")
    tokenization = Tokenization(truncation="longest_first", max_length=int(settings.get("max_seq_length", 0)))
    preprocess = tokenize_part(
        subject,
        names,
        tokenization,
        settings=("normalize", "prompts", "default_prompt_name"),
        extra=[normalize],
    )
    embeddings = subject.plan.outputs
    return Split((preprocess, core(subject, module, names, embeddings, extra={normalize: (True, False)})))


def _projection(module: Any) -> tuple[nn.Module, nn.Module]:
    return module.linear, module.activation_function


def feature_extraction(subject: Subject) -> Split:
    """The mask that the client gets is the tokenizer's own."""
    network, names = text_network(subject)
    states = next(spec for spec in subject.plan.outputs if spec.name == "last_hidden_state")
    part = core(subject, TokenStates(network, names.index(MASK)), names, [states])
    return Split((tokenize_part(subject, names, Tokenization()), part))


def text_classification(subject: Subject) -> Split:
    network, names = text_network(subject)
    logits, probs = (_output(subject, name) for name in ("logits", "probs"))
    if not subject.fold:
        part = core(subject, Fields(network, ["logits"]), names, [logits])
        return Split((tokenize_part(subject, names, Tokenization()), part, classify_part(subject, [logits])))
    part = core(subject, Classifier(network), names, [logits, probs], extra={ACTIVATION: (1, 2, 0)})
    preprocess = tokenize_part(
        subject, names, Tokenization(), extra=[ACTIVATION], more_settings=[activation_setting(subject)]
    )
    return Split((preprocess, part, classify_part(subject, [logits, probs])))


def text_ranking(subject: Subject) -> Split:
    """Every text of a request with its query; scores of rows without a text are 0."""
    network, names = text_network(subject)
    scores = _output(subject, "scores")
    ranker = Flattened(Ranker(network, subject.settings["activation"]), names.index(MASK))
    part = core(subject, ranker, names, [scores], many=True, first="What did Maria buy?")
    tokenization = Tokenization(reads="query-texts", truncation="longest_first")
    texts = next(spec for spec in subject.plan.inputs if spec.name == "text")
    return Split((tokenize_part(subject, names, tokenization), part, rank_part(subject, [scores, texts], ["json"])))


def zero_shot_classification(subject: Subject) -> Split:
    """Every label of a request with its text; what the logits mean depends on the request."""
    network, names = text_network(subject)
    logits = TensorSpec("logits", DataType.FP32, (-1, subject.model.config.num_labels), "of each label, of each class")
    module = Flattened(Fields(network, ["logits"]), names.index(MASK))
    part = core(subject, module, names, [logits], many=True, first="The wind came in from the sea.")
    tokenization = Tokenization(reads="premise-labels", truncation="only_first", template="This example is {}.")
    text, labels = subject.plan.inputs
    rank = rank_part(
        subject,
        [logits, text, msgspec.structs.replace(labels, name="labels")],
        [spec.name for spec in subject.plan.outputs],
        settings=[("entailment", str(subject.pipe.entailment_id), "the class that means yes")],
        input_map={"labels": labels.name},
    )
    return Split((tokenize_part(subject, names, tokenization), part, rank))


def fill_mask(subject: Subject) -> Split:
    """Only the scores at the masks leave the graph: those of all tokens would be a hundred times as much."""
    part = _masked_core(subject, *text_network(subject))
    (probs,) = part.outputs
    places = part.inputs[-1]
    preprocess = tokenize_part(subject, [spec.name for spec in part.inputs[:-1]], Tokenization(), extra=[places])
    ids = next(spec for spec in preprocess.outputs if spec.name == "input_ids")
    postprocess = python_part(
        subject,
        "postprocess",
        "pick_tokens.py",
        [ids, probs],
        subject.plan.outputs,
        summary="the likeliest words",
        files=((), preprocess.contents),
    )
    return Split((preprocess, part, postprocess))


def _masked_core(subject: Subject, network: Keyword, names: Sequence[str]) -> CorePart:
    places = TensorSpec("mask_positions", DataType.INT64, (-1,), "which tokens are masks")
    probs = TensorSpec("probs", DataType.FP32, (-1, subject.model.config.vocab_size), "of each word at each mask")
    tokenizer = subject.pipe.tokenizer
    samples = [*token_samples(tokenizer, names), *_several_windows(network, tokenizer, names)]
    for number, sample in enumerate(samples):
        rows = [np.random.default_rng(number).integers(0, length, 1 + number % 3) for length in sample[MASK].sum(1)]
        sample[places.name] = np.stack(rows)
    inputs = (*token_specs(names), places)
    whole, quick = (MaskedTokens(network, body).eval() for body in ("", subject.model.base_model_prefix))
    axes = token_axes(names) | {places.name: {0: "batch", 1: "masks"}, probs.name: {0: "batch", 1: "masks"}}
    masks = PaddedAxis("masks", {places.name: (0, 0)}, {probs.name: 0})
    return CorePart(
        suffix="core",
        stage="core",
        summary="the network",
        inputs=inputs,
        outputs=(probs,),
        network=Network(
            module=quick_if_equal(whole, quick, inputs, samples),
            inputs=inputs,
            outputs=(probs,),
            axes=axes,
            samples=tuple(samples),
            mask=MASK,
        ),
        padding=(*token_padding(names, tokenizer), masks),
    )


def quick_if_equal(
    whole: nn.Module, quick: nn.Module, inputs: Sequence[TensorSpec], samples: Sequence[Mapping[str, np.ndarray]]
) -> nn.Module:
    """Of two modules with one output, the quick one if it answers as the other does."""
    wanted, got = (_answers_of(module, inputs, samples) for module in (whole, quick))
    return quick if got is not None and all(map(_close, wanted or (), got)) else whole


def _answers_of(
    module: nn.Module, inputs: Sequence[TensorSpec], samples: Sequence[Mapping[str, np.ndarray]]
) -> list[np.ndarray] | None:
    """What a module with one output answers to samples; None if it cannot."""
    try:
        return [each for (each,) in answers(module, [spec.name for spec in inputs], samples)]
    except (AttributeError, KeyError, TypeError, RuntimeError, IndexError):
        return None


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-6)


def token_classification(subject: Subject) -> Split:
    """A text may be cut into several parts: with the request parameter `stride` its parts overlap."""
    network, names = text_network(subject)
    classes = subject.model.config.num_labels
    logits = TensorSpec("logits", DataType.FP32, (-1, -1, classes), "of each token of each part, of each class")
    part = core(subject, Flattened(Fields(network, ["logits"]), names.index(MASK)), names, [logits], many=True)
    places = [
        TensorSpec(name, DataType.INT64, (-1, -1), doc)
        for name, doc in (
            ("starts", "where each token starts in the text, in characters"),
            ("ends", "where it ends"),
            ("special_tokens_mask", "1 for a token that is none of the text"),
        )
    ]
    tokenization = Tokenization(reads="chunks", truncation="longest_first")
    preprocess = tokenize_part(subject, names, tokenization, extra=places)
    text = next(spec for spec in subject.plan.inputs if spec.name == "text")
    ids = next(spec for spec in preprocess.outputs if spec.name == "input_ids")
    labels = [subject.model.config.id2label[index] for index in range(classes)]
    contents = {**preprocess.contents, "labels.json": json.dumps(labels, ensure_ascii=False).encode()}
    postprocess = python_part(
        subject,
        "postprocess",
        "classify_tokens.py",
        [text, logits, ids, *places],
        subject.plan.outputs,
        summary="the entities",
        files=((), contents),
    )
    return Split((preprocess, part, postprocess))


def _output(subject: Subject, name: str) -> TensorSpec:
    return next(spec for spec in subject.plan.outputs if spec.name == name)


def _needs_mask(names: Sequence[str]) -> None:
    if MASK not in names:
        raise CannotSplit(f"the network takes {list(names)}, no {MASK}: texts of unequal length cannot share a batch")
