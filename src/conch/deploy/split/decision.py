"""The split of decisions: questions about a state, each answered by the logits of its options' labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from conch.deploy.samples import make_samples
from conch.deploy.split.heads import Keyword, LabelLogits
from conch.deploy.split.network import Network
from conch.deploy.split.parts import CannotSplit, CorePart, PaddedAxis, Split
from conch.deploy.split.stages import configuration_files, python_part
from conch.deploy.split.subject import Subject, constants
from conch.deploy.split.text import quick_if_equal
from conch.deploy.split.tokens import MASK, token_axes, token_padding, token_specs
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_TOKENS = ("input_ids", MASK)
_MARKS = TensorSpec("marks", DataType.INT64, (-1, -1), "how many tokens are before each place that is read")
_LABELS = TensorSpec("labels", DataType.INT64, (-1, -1, -1), "the token of each option of the question read there")
_LOGITS = TensorSpec("logits", DataType.FP32, (-1, -1, -1), "of each option of each question of each prompt")
_CONTEXT = TensorSpec("context", DataType.BYTES, (1,), "the questions of each prompt, as JSON")
#: Prompts of each row of each batch, by their number among those of the samples; the first batch is exported with.
_BATCHES = (((0, 1, 2), (1, 3)), ((0,),), ((2, 0), (1,), (3, 3)))
#: How many places are read in each prompt of each batch, and for how many options: other templates ask several
#: questions in one prompt.
_PLACES_AND_OPTIONS = ((2, 3), (1, 2), (3, 5))

#: A prompt's tokens, how many of them are before each place that is read, and the tokens it is read for there.
_Prompt = tuple[np.ndarray, list[int], list[list[int]]]


def decision(subject: Subject) -> Split:
    """All prompts of a request, and their questions, are rows of the network.

    Raises:
        CannotSplit: the checkpoint has a head of its own, or its prompts hold images.
    """
    pipe = subject.pipe
    if hasattr(subject.model, "decide"):
        raise CannotSplit(f"{type(subject.model).__name__} reads its prompts with a head of its own, one at a time")
    if getattr(pipe.processor, "image_processor", None) is not None:
        raise CannotSplit("its prompts may hold images, which the network takes beside the tokens")
    core = _core(subject)
    trusted = tuple(each for each in subject.plan.settings if each[0] == "trust_remote_code")
    preprocess = python_part(
        subject,
        "preprocess",
        "ask_questions.py",
        subject.plan.inputs,
        (*core.inputs, _CONTEXT),
        summary="questions to prompts",
        files=(trusted, {}),
        checkpoint=configuration_files(subject),
    )
    postprocess = python_part(
        subject,
        "postprocess",
        "answer_questions.py",
        (*core.outputs, _CONTEXT),
        subject.plan.outputs,
        summary="probabilities of the options, and the answers",
    )
    return Split(
        (preprocess, core, postprocess),
        notes=(
            "preprocess: only transformers writes prompts of decisions; its process imports it and torch (some 400 MB)",
        ),
    )


def _core(subject: Subject) -> CorePart:
    tokenizer = subject.pipe.tokenizer
    inputs = (*token_specs(_TOKENS, many=True), _MARKS, _LABELS)
    samples = _samples(subject)
    network = Keyword(subject.model, _TOKENS, constants(subject.model))
    bodies = ("", subject.model.base_model_prefix)
    whole, quick = (LabelLogits(network, body, _TOKENS.index(MASK)).eval() for body in bodies)
    axes = token_axes(_TOKENS, many=True) | {
        _MARKS.name: {0: "batch", 1: "texts", 2: "marks"},
        _LABELS.name: {0: "batch", 1: "texts", 2: "marks", 3: "options"},
        _LOGITS.name: {0: "batch", 1: "texts", 2: "marks", 3: "options"},
    }
    return CorePart(
        suffix="core",
        stage="core",
        summary="the network",
        inputs=inputs,
        outputs=(_LOGITS,),
        network=Network(
            module=quick_if_equal(whole, quick, inputs, samples),
            inputs=inputs,
            outputs=(_LOGITS,),
            axes=axes,
            samples=samples,
        ),
        padding=_padding(tokenizer),
    )


def _padding(tokenizer: Any) -> tuple[PaddedAxis, ...]:
    """Prompts of unequal length and number, and questions of unequal numbers of options, share a batch."""
    length, texts = token_padding(_TOKENS, tokenizer, many=True)
    return (
        length,
        PaddedAxis("texts", {**texts.inputs, _MARKS.name: (0, 0), _LABELS.name: (0, 0)}, {_LOGITS.name: 0}),
        PaddedAxis("marks", {_MARKS.name: (1, 0), _LABELS.name: (1, 0)}, {_LOGITS.name: 1}),
        PaddedAxis("options", {_LABELS.name: (2, 0)}, {_LOGITS.name: 2}),
    )


def _samples(subject: Subject) -> tuple[dict[str, np.ndarray], ...]:
    """The network's inputs for prompts of the task's samples, read at further places and for further tokens."""
    pipe = subject.pipe
    prompts: list[tuple[np.ndarray, list[int]]] = []
    for sample in make_samples(subject.plan, pipe):
        for inputs, questions in pipe.preprocess(json.loads(json.dumps(sample.arguments[0])))["prompts"]:
            if extra := inputs.keys() - {"input_ids", _MARKS.name, "token_type_ids"}:
                raise CannotSplit(f"its prompts are more than tokens: {sorted(extra)}")
            labels = [each for question in questions for each in pipe.label_token_ids(tuple(question.labels))]
            prompts.append((inputs["input_ids"][0].numpy(), labels))
    fill = pipe.tokenizer.pad_token_id or 0
    samples = []
    for batch, (places, options) in zip(_BATCHES, _PLACES_AND_OPTIONS, strict=True):
        rows = [[_read(*prompts[each % len(prompts)], places, options) for each in row] for row in batch]
        samples.append(_batch(rows, fill))
    return tuple(samples)


def _read(ids: np.ndarray, labels: list[int], places: int, options: int) -> _Prompt:
    """A prompt, read at its end and before, each time for other tokens."""
    marks = [len(ids) - number * (len(ids) // (places + 1)) for number in range(places)]
    return ids, marks, [[labels[(number + each) % len(labels)] for each in range(options)] for number in range(places)]


def _batch(rows: Sequence[Sequence[_Prompt]], fill: int) -> dict[str, np.ndarray]:
    """Prompts of several requests as tensors, padded at the end of every axis."""
    prompts = [prompt for row in rows for prompt in row]
    shape = (len(rows), max(map(len, rows)))
    marks = max(len(marks) for _, marks, _ in prompts)
    batch = {
        "input_ids": np.full((*shape, max(len(ids) for ids, _, _ in prompts)), fill, np.int64),
        _MARKS.name: np.zeros((*shape, marks), np.int64),
        _LABELS.name: np.zeros((*shape, marks, max(len(each) for _, _, all_ in prompts for each in all_)), np.int64),
    }
    batch[MASK] = np.zeros_like(batch["input_ids"])
    for row, several in enumerate(rows):
        for number, (ids, places, labels) in enumerate(several):
            batch["input_ids"][row, number, : len(ids)] = ids
            batch[MASK][row, number, : len(ids)] = 1
            batch[_MARKS.name][row, number, : len(places)] = places
            for mark, each in enumerate(labels):
                batch[_LABELS.name][row, number, mark, : len(each)] = each
    return batch
