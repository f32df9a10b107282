"""Splits of voices that read letter by letter (VITS): nothing around their networks needs transformers.

What is drawn at random is drawn between the networks, and its numbers are those that PyTorch would draw: a request with
a seed is answered as by the library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from conch.deploy.samples import SENTENCES
from conch.deploy.split.generation import check_generates, generate_part
from conch.deploy.split.generic import one_voice, preprocess_part
from conch.deploy.split.image import core_part, network_of
from conch.deploy.split.light import light_module
from conch.deploy.split.network import Network
from conch.deploy.split.parts import CannotSplit, CorePart, DoesNotApply, PaddedAxis, PythonPart, Split
from conch.deploy.split.stages import python_part, tokenize_part, unpadded_setting
from conch.deploy.split.subject import Subject, model_inputs
from conch.deploy.split.tokenizer import Tokenization
from conch.deploy.split.tokens import MASK, token_specs
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

_PROBES = (
    *SENTENCES,
    "  UPPER lower MiXeD don't, naïve Ünïcödé; ț 東京 \U0001f41a 4711 \t a tab.\n",
    "",
    "12?!",
    "<unk> <pad> </s> a",
)
_TOKENS = token_specs(("input_ids", MASK))
_SEED = TensorSpec("seed", DataType.INT64, (1,), "what all random numbers of the sample follow from")
_DURATION_NOISE = TensorSpec("duration_noise", DataType.FP32, (2, -1), "normal random numbers, two a letter")
_LOG_DURATIONS = TensorSpec("log_durations", DataType.FP32, (-1,), "logarithm of how long each letter is spoken")
#: Letters of each row of each batch that the networks are proved with; the first is exported with.
_LENGTHS = ((9, 14), (23,), (5, 31, 17))
#: Frames of each batch.
_FRAMES = ((2, 12), (1, 30), (3, 7))


class Reading(nn.Module):
    """The first half of a VITS model: letters, and numbers drawn for their durations, to what is spoken, for how long.

    Shape:
        `input_ids`, `attention_mask` [batch, letters], `duration_noise` [batch, 2, letters] where durations are drawn
        -> log_durations [batch, letters], prior_means and prior_log_variances [batch, letters, channels].
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder, self.predictor = model.text_encoder, model.duration_predictor
        self.drawn = bool(model.config.use_stochastic_duration_prediction)
        self.noise_scale = float(model.noise_scale_duration)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *noise: torch.Tensor) -> Any:
        mask = attention_mask.unsqueeze(-1).to(self.encoder.embed_tokens.weight.dtype)
        read = self.encoder(input_ids=input_ids, padding_mask=mask, attention_mask=attention_mask, return_dict=True)
        hidden, mask = read.last_hidden_state.transpose(1, 2), mask.transpose(1, 2)
        if self.drawn:
            with _drawn(noise[0]):
                durations = self.predictor(hidden, mask, None, reverse=True, noise_scale=self.noise_scale)
        else:
            durations = self.predictor(hidden, mask, None)
        return durations.squeeze(1).float(), read.prior_means.float(), read.prior_log_variances.float()


class Speaking(nn.Module):
    """The second half: latents [batch, channels, frames] -> waveform [batch, samples]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.flow, self.decoder = model.flow, model.decoder

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor]:
        every = torch.ones_like(latents[:, :1])
        spectrogram = self.flow(latents, every, None, reverse=True)
        return (self.decoder(spectrogram, None).squeeze(1).float(),)


@contextmanager
def _drawn(noise: torch.Tensor) -> Iterator[None]:
    """Have the library take these numbers where it draws normal ones."""
    with mock.patch.object(torch, "randn", lambda *_, **__: noise):
        yield


def text_to_audio(subject: Subject) -> Split:
    pipe, model = subject.pipe, subject.model
    if getattr(model.config, "model_type", "") != "vits":
        raise DoesNotApply(f"{type(model).__name__} does not read letter by letter")
    one_voice(subject)
    contents = {"letters.json": json.dumps(letters_of(pipe.tokenizer), ensure_ascii=False).encode()}
    reading = _reading_part(model, pipe.tokenizer.pad_token_id or 0)
    drawn = _DURATION_NOISE in reading.inputs
    noise = ("duration_noise", "true" if drawn else "false", "whether durations are drawn, before everything else")
    preprocess = python_part(
        subject,
        "preprocess",
        "number_letters.py",
        subject.plan.inputs,
        (*reading.inputs, _SEED),
        summary="texts to the numbers of their letters, and what random numbers follow from",
        files=((), contents),
    )
    speaking = _speaking_part(model)
    scale = ("noise_scale", repr(float(model.noise_scale)), "how much what is drawn changes the voice")
    rate = ("speaking_rate", repr(float(model.speaking_rate)), "how fast it speaks")
    draw = python_part(
        subject,
        "latents",
        "draw_latents.py",
        (*reading.outputs, _TOKENS[1], _SEED),
        speaking.inputs,
        summary="each letter for as long as it is spoken, with what is drawn",
        files=((scale, rate, noise, *unpadded_setting(speaking.inputs)), {}),
        stage="core",
    )
    return Split((preprocess, reading, draw, speaking, _sound_part(subject, speaking.outputs)))


def generated(subject: Subject) -> Split:
    """Voices and sounds of models that generate: the text apart, and one step that makes the sound."""
    check_generates(subject)
    notes: tuple[str, ...] = ()
    padded: tuple[tuple[str, str, str], ...] = ()
    try:
        if subject.model.config.model_type == "bark":
            preprocess, padded = _bark_texts(subject)
        elif subject.pipe.processor is not None:
            raise CannotSplit(f"{type(subject.pipe.processor).__name__} prepares its texts")
        else:
            names = model_inputs(subject.pipe.tokenizer.model_input_names, subject.model)
            preprocess = tokenize_part(subject, names, Tokenization(reads="text"))
    except CannotSplit as error:
        preprocess = preprocess_part(subject, (), context=True)
        notes = (f"parts that need no transformers are not possible: {error}",)
    speaker = tuple(spec for spec in subject.plan.inputs if spec.name == "speaker_embeddings")
    made = (*preprocess.outputs, *speaker)
    plain = Split((preprocess, generate_part(subject, made, subject.plan.outputs, padded)), notes)
    if subject.pipe.vocoder is None:
        return plain
    vocoder = _vocoder_part(subject.pipe.vocoder)
    generate = generate_part(subject, made, vocoder.inputs, unpadded_setting(vocoder.inputs))
    return Split((preprocess, generate, vocoder, _sound_part(subject, vocoder.outputs)), notes, fallback=plain)


def _bark_texts(subject: Subject) -> tuple[PythonPart, tuple[tuple[str, str, str], ...]]:
    """Texts to tokens, as its processor makes them, and a setting of the generation, which pads them."""
    pipe, text = subject.pipe, SENTENCES[0]
    tokens = pipe.tokenizer(text, add_special_tokens=False)["input_ids"]
    made = pipe.preprocess(text)
    real = made[MASK][0].bool()
    padding = made["input_ids"][0][~real]
    if made["input_ids"][0][: len(tokens)].tolist() != tokens or not real[: len(tokens)].all():
        raise CannotSplit(f"{type(pipe.processor).__name__} makes other tokens of texts than its tokenizer")
    if set(padding.tolist()) != {pipe.tokenizer.pad_token_id}:
        raise CannotSplit(f"{type(pipe.processor).__name__} pads texts with more than one token")
    preprocess = tokenize_part(subject, ("input_ids", MASK), Tokenization(reads="text", special=False))
    return preprocess, (("pad_to", str(len(real)), "texts are padded to that many tokens"),)


def _vocoder_part(vocoder: Any) -> CorePart:
    bands = int(vocoder.config.model_in_dim)
    spectrogram = TensorSpec("spectrogram", DataType.FP32, (-1, bands), "what is spoken, frame by frame")
    random = np.random.default_rng(0)
    samples = [{"spectrogram": random.normal(size=(rows, count, bands)).astype(np.float32)} for rows, count in _FRAMES]
    network = network_of(Played(vocoder), (spectrogram,), ("waveform",), samples)
    return core_part(network, "vocoder", "the network that plays spectrograms")


class Played(nn.Module):
    """A vocoder: spectrogram [batch, frames, bands] -> waveform [batch, samples]."""

    def __init__(self, vocoder: Any) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, spectrogram: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.vocoder(spectrogram).float(),)


def _sound_part(subject: Subject, waveform: Sequence[TensorSpec]) -> PythonPart:
    rate = ("sampling_rate", str(int(subject.pipe.sampling_rate)), "samples a second")
    return python_part(
        subject,
        "postprocess",
        "play_waveform.py",
        waveform,
        subject.plan.outputs,
        summary="the sound",
        files=((rate,), {}),
    )


def _reading_part(model: Any, pad: int) -> CorePart:
    module = Reading(model).eval()
    inputs = (*_TOKENS, _DURATION_NOISE) if module.drawn else _TOKENS
    channels = int(model.config.flow_size)
    priors = tuple(
        TensorSpec(name, DataType.FP32, (-1, channels), f"of what is spoken, the {what}")
        for name, what in (("prior_means", "means"), ("prior_log_variances", "logarithms of the variances"))
    )
    axes: dict[str, dict[int, str]] = {spec.name: {0: "batch", 1: "sequence"} for spec in (*_TOKENS, *priors)}
    axes |= {_DURATION_NOISE.name: {0: "batch", 2: "sequence"}} if module.drawn else {}
    axes |= {_LOG_DURATIONS.name: {0: "batch", 1: "sequence"}}
    fills = {"input_ids": (0, pad), MASK: (0, 0)} | ({_DURATION_NOISE.name: (1, 0)} if module.drawn else {})
    outputs = (_LOG_DURATIONS, *priors)
    samples = tuple(_letters(lengths, int(model.config.vocab_size), pad, drawn=module.drawn) for lengths in _LENGTHS)
    return CorePart(
        suffix="reading",
        stage="core",
        summary="letters to what is spoken, and for how long",
        inputs=inputs,
        outputs=outputs,
        network=Network(module, inputs, outputs, axes, samples, mask=MASK),
        padding=(PaddedAxis("sequence", fills, {spec.name: 0 for spec in outputs}),),
    )


def _letters(lengths: Sequence[int], letters: int, pad: int, *, drawn: bool) -> dict[str, np.ndarray]:
    """A batch of texts of these lengths, padded at the end."""
    random = np.random.default_rng(sum(lengths))
    ids = np.full((len(lengths), max(lengths)), pad, np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = random.integers(0, letters, length)
        mask[row, :length] = 1
    noise = random.normal(size=(len(lengths), 2, max(lengths))).astype(np.float32)
    return {"input_ids": ids, MASK: mask} | ({_DURATION_NOISE.name: noise} if drawn else {})


def _speaking_part(model: Any) -> CorePart:
    channels = int(model.config.flow_size)
    latents = TensorSpec("latents", DataType.FP32, (channels, -1), "what is spoken, frame by frame")
    random = np.random.default_rng(0)
    samples = [{"latents": random.normal(size=(rows, channels, count)).astype(np.float32)} for rows, count in _FRAMES]
    return core_part(network_of(Speaking(model), (latents,), ("waveform",), samples), "core", "the voice")


def letters_of(tokenizer: Any) -> dict[str, Any]:
    """How light code makes the numbers that the tokenizer makes.

    Raises:
        CannotSplit: it does not.
    """
    name = type(tokenizer).__name__
    if not all(hasattr(tokenizer, each) for each in ("add_blank", "phonemize", "is_uroman", "encoder")):
        raise CannotSplit(f"{name} does not read letter by letter")
    for needed, what in (("phonemize", "makes phonemes of texts"), ("is_uroman", "romanizes texts")):
        if getattr(tokenizer, needed):
            raise CannotSplit(f"{name} {what}, which only transformers can do")
    settings = {
        "letters": dict(tokenizer.encoder),
        "special": list(tokenizer.added_tokens_encoder),
        "unknown": tokenizer.unk_token_id,
        "normalize": bool(tokenizer.normalize),
        "blank": bool(tokenizer.add_blank),
        "replaced": [["ț", "ţ"]] if tokenizer.language == "ron" else [],
    }
    letters = light_module("light_letters").Letters(settings)
    for text in _PROBES:
        if not np.array_equal(letters(text), np.array(tokenizer(text)["input_ids"], np.int64)):
            raise CannotSplit(f"{name} makes other numbers of {text[:30]!r} than light code")
    return settings
