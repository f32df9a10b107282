"""What model.py builds on where torch and transformers run: the device, the threads, the pipeline and its parameters.

It lies beside model.py and belongs to this model alone: change it as you like.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import light_serving
import torch
import transformers
from light_serving import PARSERS, Infer, Outputs, Row, to_json

__all__ = ["Outputs", "Row", "Settings", "answer", "load_pipeline", "seeded", "stage_parameters", "to_json"]


#: Numbers that SpeechT5's `generate` takes beside those of others.
SPEECH = {"threshold", "minlenratio", "maxlenratio"}


def parse_generation(value: Any) -> dict[str, Any]:
    """Settings of `generate` that are numbers and names; its other arguments could make it run foreign code."""
    settings = json.loads(value) if isinstance(value, str) else value
    known = vars(transformers.GenerationConfig()).keys() | {"language", "task"} | SPEECH
    if refused := sorted(settings.keys() - known):
        raise ValueError(f"{refused} are no settings of generate")
    return settings


class Settings(light_serving.Settings):
    """Where the checkpoint lies and which device it runs on, beside what every model reads."""

    parsers: ClassVar = {**PARSERS, "generation": parse_generation}

    def __init__(self, args: dict[str, str]) -> None:
        super().__init__(args)
        self.directory = self.version / "checkpoint"
        self.checkpoint = str(self.directory / self.values.get("subfolder", ""))
        gpu = args["model_instance_kind"] == "GPU" and torch.cuda.is_available()
        self.device = f"cuda:{args['model_instance_device_id']}" if gpu else "cpu"
        # Padding is cheap on a GPU and expensive on a CPU.
        self.max_padding = float(self.values.get("max_padding", 1.25 if self.device == "cpu" else 3.0))
        groups = json.loads(args["model_config"]).get("instance_group", [])
        set_threads(self.values.get("torch_num_threads"), sum(group.get("count", 1) for group in groups) or 1)


def set_threads(wanted: str | None, instances: int) -> None:
    """Share the cores among the instances of the model unless the configuration or OMP_NUM_THREADS says otherwise."""
    if wanted or "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(int(wanted) if wanted else max(1, cores // instances))


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Random numbers from this seed while the context lasts; those after it are as if it had not been."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


class Spectrograms(torch.nn.Identity):
    """In a vocoder's place: what the model made is played elsewhere, or never."""

    config = SimpleNamespace(sampling_rate=0)


def load_pipeline(settings: Settings, task: str | None = None, *, plays: bool = True) -> Any:
    """The transformers pipeline of the checkpoint.

    With `plays`, the network that the setting `vocoder` names plays what a model of spectrograms makes.
    """
    vocoder = load_vocoder(settings) if plays else Spectrograms()
    pipe = transformers.pipeline(
        task or settings.task,
        model=settings.checkpoint,
        device=settings.device,
        dtype=settings.values.get("dtype", "auto"),
        trust_remote_code=settings.values.get("trust_remote_code") == "true",
        **({} if vocoder is None else {"vocoder": vocoder}),
    )
    if vocoder is not None:
        vocoder.to(settings.device, pipe.model.dtype)
    return pipe


def check_length(model: Any, tokens: int) -> None:
    """Refuse a text of more tokens than the model has positions for."""
    limit = getattr(model.config, "max_text_positions", None)
    if limit and tokens > limit:
        raise ValueError(f"the text has {tokens} tokens, the model takes at most {limit}: send a shorter text")


def load_vocoder(settings: Settings) -> Any:
    """The network that the setting `vocoder` names; None without it, where the model makes sounds itself."""
    place = settings.values.get("vocoder")
    return None if place is None else transformers.SpeechT5HifiGan.from_pretrained(settings.version / place)


def stage_parameters(pipe: Any, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Keyword arguments of the pipeline's preprocess, forward and postprocess."""
    own = (pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)
    return [{**default, **sent} for default, sent in zip(own, pipe._sanitize_parameters(**parameters), strict=True)]


def answer(
    requests: Sequence[Any], settings: Settings, decode: Callable[..., Any], infer: Infer, cancellable: bool = False
) -> list[Any]:
    """Exactly one response a request, as `light_serving.answer`, without gradients."""
    with torch.inference_mode():
        return light_serving.answer(requests, settings, decode, infer, cancellable)
