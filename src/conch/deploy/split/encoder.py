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


def encoder_part(
    model: Any, inputs: Sequence[TensorSpec], samples: Sequence[Mapping[str, np.ndarray]], *, parts: bool
) -> CorePart | str:
    """The encoder from `inputs`, of a fixed size, to its states; or why there is none to export.

    Args:
        parts: tensors are [batch, parts, ..].
    """
    if not getattr(model.config, "is_encoder_decoder", False):
        return f"no encoder runs on an engine: {type(model).__name__} has none"
    names = [spec.name for spec in inputs]
    module: torch.nn.Module = Fields(Keyword(model.get_encoder(), names, {"return_dict": True}), ["last_hidden_state"])
    fed = [{name: sample[name] for name in names} for sample in samples]
    network = network_of(Parts(module) if parts else module, inputs, [STATES], fed)
    return core_part(network, "encoder", "the encoder")
