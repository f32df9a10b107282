"""Splits of models that look at a page and write the answer (Donut).

Pixels and prompts without transformers, the encoder on an engine, and `generate`, which makes the answer itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conch.deploy.samples import draw_image
from conch.deploy.split.encoder import encoder_part
from conch.deploy.split.generation import generate_part
from conch.deploy.split.image_processor import light_image_processor, pixel_dims
from conch.deploy.split.parts import CannotSplit, DoesNotApply, PythonPart, Split
from conch.deploy.split.stages import python_part
from conch.deploy.split.subject import Subject
from conch.deploy.split.tokenizer import PartFiles, Tokenization, light_encoder, light_tokenizer
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

#: What its pipeline asks with.
PROMPT = "<s_docvqa><s_question>{}</s_question><s_answer>"
_QUESTIONS = ("What did Maria buy?", "  Ünïcödé,  </s_question><s> {} 4711?\n", "", "東京 \U0001f41a <pad>")
#: Numbers of the drawn images of each batch; the first is exported with.
_BATCHES = ((0, 2), (1,), (2, 1, 0))


def written_answers(subject: Subject) -> Split:
    """Nothing follows the generation: the tokenizer is there, and an answer takes a fraction of a millisecond."""
    if not subject.model.can_generate():
        raise DoesNotApply(f"{type(subject.model).__name__} does not write its answer")
    preprocess, samples = _preprocess(subject)
    plain = Split((preprocess, generate_part(subject, preprocess.outputs, subject.plan.outputs)))
    pixels = preprocess.outputs[:1]
    encoder = encoder_part(subject.model, pixels, samples, parts=False, arguments=("pixel_values",))
    if isinstance(encoder, str):
        return Split(plain.parts, (encoder,))
    generate = generate_part(subject, (*preprocess.outputs, *encoder.outputs), subject.plan.outputs)
    return Split((preprocess, encoder, generate), fallback=plain)


def _preprocess(subject: Subject) -> tuple[PythonPart, list[dict[str, np.ndarray]]]:
    """Pages and questions to tensors; and batches of pages.

    Raises:
        CannotSplit: it would make other tensors than the pipeline.
    """
    pipe = subject.pipe
    if pipe.image_processor is None:
        raise CannotSplit("its images are not prepared by a processor of images")
    pixels = light_image_processor(pipe.image_processor)
    dims = pixel_dims(pixels)
    if -1 in dims:
        raise CannotSplit(f"{type(pipe.image_processor).__name__} makes pages of several sizes")
    tokens = light_tokenizer(pipe.tokenizer, subject.model.config, Tokenization(special=False))
    _prove(pipe, tokens)
    outputs = (
        TensorSpec("inputs", DataType.FP32, dims, "the page as the network takes it: [channels, height, width]"),
        TensorSpec("decoder_input_ids", DataType.INT64, (-1,), "what the answer begins with; -1 is padding"),
    )
    part = python_part(
        subject,
        "preprocess",
        "process_page.py",
        subject.plan.inputs,
        outputs,
        summary="pages and questions to what the model looks at and begins with",
        files=((("prompt", PROMPT, "what an answer begins with; {} is the question"),), {**pixels[1], **tokens[1]}),
    )
    made = [_page(pipe, number) for number in range(3)]
    return part, [{"inputs": np.concatenate([made[number] for number in batch])} for batch in _BATCHES]


def _prove(pipe: Any, tokens: PartFiles) -> None:
    """Raise CannotSplit unless questions become what the pipeline makes of them."""
    encoder, image = light_encoder(tokens[1]), draw_image(0)
    for question in _QUESTIONS:
        (made,) = pipe.preprocess({"question": question, "image": image})
        others = _tensors(made) - {"inputs", "decoder_input_ids"}
        if others:
            raise CannotSplit(f"the pipeline makes {', '.join(sorted(others))} of a page, which light code does not")
        (encoding,) = encoder.encode([PROMPT.replace("{}", question)], special=False)
        if made["decoder_input_ids"][0].tolist() != encoding.ids:
            raise CannotSplit(f"the pipeline asks {question[:30]!r} with other tokens than light code")


def _tensors(made: Mapping[str, Any]) -> set[str]:
    return {name for name, value in made.items() if hasattr(value, "detach")}


def _page(pipe: Any, number: int) -> np.ndarray:
    """[1, 3, height, width]"""
    (made,) = pipe.preprocess({"question": _QUESTIONS[0], "image": draw_image(number)})
    pixels: np.ndarray = made["inputs"].float().numpy()
    return pixels
