"""The encoder of a model that generates, as a network of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from conch.deploy.split.heads import Fields, Keyword, Parts
from conch.deploy.split.image import core_part, network_of
from conch.deploy.split.parts import CorePart
from conch.deploy.tasks import TensorSpec

STATES = "encoder_hidden_states"


#: Where the encoder of images lies in models that are no encoder and decoder: it is called once an answer.
_VISION = ("vision_model", "git.image_encoder")


def encoder_part(
    model: Any,
    inputs: Sequence[TensorSpec],
    samples: Sequence[Mapping[str, np.ndarray]],
    *,
    parts: bool,
    arguments: Sequence[str] = (),
) -> CorePart | str:
    """The encoder from `inputs`, of a fixed size, to its states; or why there is none to export.

    Args:
        parts: tensors are [batch, parts, ..].
        arguments: what the encoder calls its inputs, if not as they are called here.
    """
    name = encoder_name(model)
    if name is None:
        return f"no encoder runs on an engine: {type(model).__name__} has none"
    names = [spec.name for spec in inputs]
    encoder = model.get_submodule(name) if name else model.get_encoder()
    module: torch.nn.Module = Fields(Keyword(encoder, arguments or names, {"return_dict": True}), ["last_hidden_state"])
    fed = [{name: sample[name] for name in names} for sample in samples]
    network = network_of(Parts(module) if parts else module, inputs, [STATES], fed)
    return core_part(network, "encoder", "the encoder")


def encoder_name(model: Any) -> str | None:
    """Where the encoder lies in the model: "" for what `get_encoder` gives, None without one."""
    if getattr(model.config, "is_encoder_decoder", False):
        return ""
    modules = dict(model.named_modules())
    return next((name for name in _VISION if name in modules), None)


def encoder_setting(model: Any, reads: str) -> tuple[tuple[str, str, str], ...]:
    """What the generation must know of the encoder that an engine runs in its place."""
    name = encoder_name(model)
    return (("encoder", f"{name} {reads}", "the module that an engine runs, and what it reads"),) if name else ()
