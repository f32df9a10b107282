"""Prompts about sounds without transformers (Qwen2-Audio), proved equal to what the pipeline makes of them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from conch.deploy.export.quiet import quiet
from conch.deploy.samples import tone
from conch.deploy.split.audio_processor import light_audio_processor
from conch.deploy.split.generation import check_generates, generate_part
from conch.deploy.split.image_prompts import made_tensors
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, DoesNotApply, Split
from conch.deploy.split.stages import python_part
from conch.deploy.split.subject import Subject
from conch.deploy.split.tokenizer import PartFiles, Tokenization, light_encoder, light_tokenizer
from conch.deploy.split.tokens import token_specs
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_TOKENS = ("input_ids", "attention_mask")
_SOUNDS = TensorSpec("sounds", DataType.INT64, (1,), "how many of `input_features` are sounds")
_PROMPTS = ("What is this?", "Ünïcödé  \n東京", "")
_QUESTION = {"type": "text", "text": "What is this?"}
_LISTENED = ("text", "messages", "audio", "sampling_rate")


def sound_prompts(subject: Subject) -> Split:
    """Tokens and features without transformers; the generation makes the text itself, for it has the tokenizer."""
    check_generates(subject)
    if subject.model.config.model_type != "qwen2_audio":
        raise DoesNotApply(f"{type(subject.model).__name__} prepares sounds in a way of its own")
    files, (bands, frames) = light_sound_prompts(subject.pipe, subject.model.config)
    outputs = (
        *token_specs(_TOKENS),
        TensorSpec("input_features", DataType.FP32, (-1, bands, frames), "the sounds as the model takes them"),
        TensorSpec("feature_attention_mask", DataType.INT32, (-1, frames), "1 for sound, 0 for padding"),
        _SOUNDS,
    )
    preprocess = python_part(
        subject,
        "preprocess",
        "process_sound_prompt.py",
        subject.plan.inputs,
        outputs,
        summary="prompts and sounds to tokens and features",
        files=files,
    )
    heard = tuple(spec for spec in subject.plan.inputs if spec.name in _LISTENED)
    return Split((preprocess, generate_part(subject, (*outputs, *heard), subject.plan.outputs)))


def light_sound_prompts(pipe: Any, config: Any) -> tuple[PartFiles, tuple[int, int]]:
    """Settings and contents of a part that runs `process_sound_prompt.py`, and the bands and frames of its sounds.

    Raises:
        CannotSplit: it would make other tensors than the pipeline's preprocess.
    """
    processor = pipe.processor
    if getattr(processor.tokenizer, "response_template", None) is not None:
        raise CannotSplit(f"{type(processor.tokenizer).__name__} takes answers apart, which only transformers can do")
    _, audio = light_audio_processor(processor.feature_extractor)
    _, contents = light_tokenizer(processor.tokenizer, config, Tokenization(padding_side="left"))
    template = getattr(processor, "chat_template", None) or None
    if not isinstance(template, str | None):
        raise CannotSplit(f"{type(processor).__name__} has several chat templates")
    chat = {"template": template, "special_tokens": dict(processor.tokenizer.special_tokens_map)}
    files = {**contents, **audio, "chat.json": json.dumps(chat, ensure_ascii=False).encode()}
    prompts = _prompts(files, processor.audio_token)
    with quiet():
        _prove(pipe, files, prompts, chat)
    settings = (("audio_token", processor.audio_token, "what stands for a sound in a text"),)
    return (settings, files), prompts.shape


def _prompts(files: Mapping[str, bytes], token: str) -> Any:
    arrays = dict(np.load(io.BytesIO(files["audio_arrays.npz"])))
    audio = light_module("light_audio").AudioProcessor(json.loads(files["audio_settings.json"]), arrays)
    return light_module("light_sound_prompts").SoundPrompts(audio, token)


def _prove(pipe: Any, files: Mapping[str, bytes], prompts: Any, chat: Mapping[str, Any]) -> None:
    """Raise CannotSplit unless prompts with and without sounds give the tensors that the pipeline makes."""
    encoder = light_encoder(files)
    template = light_module("light_chat").ChatTemplate(**chat)
    for inputs, text, sounds in _probes(pipe, template, prompts):
        made = made_tensors(pipe, inputs)
        begins = chat["special_tokens"].get("bos_token")
        special = not (hasattr(inputs, "messages") and begins and text.startswith(begins))
        features, mask = prompts.features(sounds)
        (encoding,) = encoder.encode([prompts.expand(text, mask)], special=special)
        got: dict[str, np.ndarray] = {name: encoder.tensors([encoding])[name] for name in _TOKENS}
        if sounds:
            got |= {"input_features": features, "feature_attention_mask": mask}
        if set(made) != set(got):
            raise CannotSplit(f"the pipeline makes {', '.join(sorted(made))} of a prompt with {len(sounds)} sounds")
        for name, value in got.items():
            if value.shape != made[name].shape or not np.allclose(value, made[name], rtol=0, atol=1e-3):
                raise CannotSplit(f"the pipeline makes other {name} {list(made[name].shape)} than light code")


def _probes(pipe: Any, template: Any, prompts: Any) -> Iterator[tuple[Any, str, list[np.ndarray]]]:
    """Prompts as the pipeline takes them, as text, and their sounds: short ones, and one that is cut."""
    rate, hop = prompts.processor.sampling_rate, prompts.hop
    short, long = tone(0, rate), np.resize(tone(1, rate), prompts.window + rate // 3)
    for prompt in _PROMPTS:
        for sound in (short, short[: 100 * hop // 7], short[: 5 * hop + 1], long):
            yield {"text": prompts.token + prompt, "audio": sound}, prompts.token + prompt, [sound]
        yield {"text": prompt or "a", "audio": None}, prompt or "a", []
    both = f"{prompts.token} or {prompts.token}?"
    yield {"text": both, "audio": [long, short]}, both, [long, short]
    if not template.sources[0]:
        return
    conversation = light_module("hf_prompts").chat_class(pipe)
    for heard in ([], [short], [short, long]):
        asked = {"role": "user", "content": [*({"type": "audio", "audio": sound} for sound in heard), _QUESTION]}
        plain = {"role": "user", "content": [*({"type": "audio", "audio": "audio"} for _ in heard), _QUESTION]}
        begun = {"role": "assistant", "content": [{"type": "text", "text": "It is "}]}
        for more in ([], [begun]):
            yield conversation([asked, *more]), template.prompt([plain, *more]), heard
