"""Prompts about images without transformers, proved equal to what the pipeline makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from conch.deploy.extras import require
from conch.deploy.samples import draw_image
from conch.deploy.split.encoder import encoder_part, encoder_setting
from conch.deploy.split.generation import check_generates, generate_part
from conch.deploy.split.image_processor import light_image_processor, pixel_dims
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, PythonPart, Split
from conch.deploy.split.stages import python_part
from conch.deploy.split.subject import Subject
from conch.deploy.split.tokenizer import PartFiles, Tokenization, light_encoder, light_tokenizer
from conch.deploy.split.tokens import token_specs
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_TOKENS = ("input_ids", "attention_mask")
_IMAGES = TensorSpec("images", DataType.INT64, (1,), "how many of `pixel_values` are images")
_SOME_PIXELS = ("some_pixels", "true", "a prompt without images brings black ones: the encoder must be given some")
_PROMPTS = ("a photo of", "Ünïcödé  \n東京", "")
_QUESTION = {"type": "text", "text": "What is this?"}


def image_prompts(subject: Subject) -> Split:
    """Tokens and pixels without transformers; the generation makes the text itself, for it has the tokenizer."""
    check_generates(subject)
    files, size = light_image_prompts(subject.pipe, subject.model.config)
    pixels = TensorSpec("pixel_values", DataType.FP32, (-1, *size), "the images as the model takes them")
    outputs = (*token_specs(_TOKENS), pixels, _IMAGES)
    generate = generate_part(subject, (*outputs, *subject.plan.inputs), subject.plan.outputs)
    plain = Split((_preprocess_part(subject, outputs, files), generate))
    encoder = encoder_part(subject.model, [pixels], _pixel_batches(files), parts=True)
    if isinstance(encoder, str):
        return Split(plain.parts, (encoder,))
    own, contents = files
    preprocess = _preprocess_part(subject, outputs, ((*own, _SOME_PIXELS), contents))
    generate = generate_part(
        subject,
        (*outputs, *encoder.outputs, *subject.plan.inputs),
        subject.plan.outputs,
        encoder_setting(subject.model, pixels.name),
    )
    return Split((preprocess, encoder, generate), fallback=plain)


def _preprocess_part(subject: Subject, outputs: Sequence[TensorSpec], files: PartFiles) -> PythonPart:
    return python_part(
        subject,
        "preprocess",
        "process_image_prompt.py",
        subject.plan.inputs,
        outputs,
        summary="prompts and images to tokens and pixels",
        files=files,
        stage="preprocess",
    )


def _pixel_batches(files: PartFiles) -> list[dict[str, np.ndarray]]:
    """Batches of rows of several images, to export and prove an encoder with."""
    pixels_of = light_module("light_image").ImageProcessor(json.loads(files[1]["image_settings.json"]))
    made = [pixels_of(draw_image(number))["pixel_values"] for number in range(3)]
    rows = (((0, 1), (2, 0)), ((2,),), ((1, 0, 2), (0, 0, 1), (2, 1, 0)))
    return [{"pixel_values": np.stack([np.stack([made[n] for n in row]) for row in batch])} for batch in rows]


def light_image_prompts(pipe: Any, config: Any) -> tuple[PartFiles, tuple[int, int, int]]:
    """Settings and contents of a part that runs `process_image_prompt.py`, and the size of its images.

    Raises:
        CannotSplit: it would make other tensors than the pipeline's preprocess.
    """
    processor = pipe.processor
    tokenizer, images = getattr(processor, "tokenizer", None), getattr(processor, "image_processor", None)
    if tokenizer is None or images is None:
        raise CannotSplit(f"{type(processor).__name__} has no tokenizer and image processor of its own")
    if getattr(tokenizer, "response_template", None) is not None:
        raise CannotSplit(f"{type(tokenizer).__name__} takes answers apart, which only transformers can do")
    image_files = light_image_processor(images)
    size = pixel_dims(image_files)
    if -1 in size:
        raise CannotSplit(f"{type(images).__name__} makes images of many sizes")
    _, contents = light_tokenizer(tokenizer, config, Tokenization(padding_side="left"))
    template = getattr(processor, "chat_template", None) or None
    if not isinstance(template, str | None):
        raise CannotSplit(f"{type(processor).__name__} has several chat templates")
    chat = {"template": template, "special_tokens": dict(tokenizer.special_tokens_map)}
    settings = [("image_size", f"{size[1]} {size[2]}", "height and width of the images as the model takes them")]
    settings += _expansion(pipe)
    files = {**contents, **image_files[1], "chat.json": json.dumps(chat, ensure_ascii=False).encode()}
    _prove(pipe, files, {key: value for key, value, _ in settings}, chat)
    return (tuple(settings), files), size


def _expansion(pipe: Any) -> list[tuple[str, str, str]]:
    """What stands for an image in a text, and how many tokens of it the model takes; nothing for models without."""
    token = getattr(pipe.processor, "image_token", None)
    if not token:
        return []
    made = made_tensors(pipe, {"text": token, "images": [draw_image(0)]})
    number = pipe.processor.tokenizer.convert_tokens_to_ids(token)
    count = int((made["input_ids"] == number).sum())
    return [
        ("image_token", token, "what stands for an image in a text"),
        ("image_tokens", str(count), "how many tokens the model takes for each"),
    ]


def _prove(pipe: Any, files: Mapping[str, bytes], settings: Mapping[str, str], chat: Mapping[str, Any]) -> None:
    """Raise CannotSplit unless prompts with and without images give the tensors that the pipeline makes."""
    encoder = light_encoder(files)
    template = light_module("light_chat").ChatTemplate(**chat)
    pixels_of = light_module("light_image").ImageProcessor(json.loads(files["image_settings.json"]))
    token, count = settings.get("image_token", ""), int(settings.get("image_tokens", 1))
    for inputs, text, images in _probes(pipe, template, token):
        made = made_tensors(pipe, inputs)
        begins = chat["special_tokens"].get("bos_token")
        special = not (hasattr(inputs, "messages") and begins and text.startswith(begins))
        (encoding,) = encoder.encode([text.replace(token, token * count) if token else text], special=special)
        got: dict[str, np.ndarray] = {name: encoder.tensors([encoding])[name] for name in _TOKENS}
        if images:
            got["pixel_values"] = np.stack([pixels_of(image)["pixel_values"] for image in images])
        if set(made) != set(got):
            raise CannotSplit(f"the pipeline makes {', '.join(sorted(made))} of a prompt with {len(images)} images")
        for name, value in got.items():
            if value.shape != made[name].shape or not np.allclose(value, made[name], rtol=0, atol=1e-3):
                raise CannotSplit(f"the pipeline makes other {name} {list(made[name].shape)} than light code")


def _probes(pipe: Any, template: Any, token: str) -> Iterator[tuple[Any, str, list[Any]]]:
    """Prompts as the pipeline takes them, as text, and their images; those that the library itself refuses left out."""
    images = [draw_image(0), draw_image(1)]
    for prompt in _PROMPTS:
        yield {"text": token + prompt, "images": images[:1]}, token + prompt, images[:1]
    if not template.sources[0]:
        return
    conversation = require("transformers.utils.chat_template_utils").Chat
    for shown in ([], images[:1], images):
        asked = {"role": "user", "content": [*({"type": "image", "image": image} for image in shown), _QUESTION]}
        plain = {"role": "user", "content": [*({"type": "image", "image": "image"} for _ in shown), _QUESTION]}
        begun = {"role": "assistant", "content": [{"type": "text", "text": "It is "}]}
        for more in ([], [begun]):
            yield conversation([asked, *more]), template.prompt([plain, *more]), shown


def made_tensors(pipe: Any, inputs: Any) -> dict[str, np.ndarray]:
    """The tensors that the pipeline's preprocess makes."""
    torch = require("torch")
    try:
        made = pipe.preprocess(inputs, **pipe._preprocess_params)
    except Exception as error:  # whatever a processor raises
        raise CannotSplit(f"{type(pipe.processor).__name__} refuses a prompt: {str(error).splitlines()[0]}") from error
    return {name: value.numpy() for name, value in made.items() if isinstance(value, torch.Tensor)}
