"""Random weights that make a model say something: activations keep their size, and scores differ from each other."""

from __future__ import annotations

import math

import torch
from torch import nn

SEED = 20240517


def randomise(model: nn.Module, seed: int = SEED, gain: float = 1.0, embedding: float = 0.5) -> None:
    """Fill a model with seeded normal weights, in place.

    The initialisation that models come with (a standard deviation of 0.02) makes a narrow model answer the same score
    for everything. Here a matrix gets `gain / sqrt(fan_in)`, an embedding table `embedding`, a bias 0.1; scales of
    normalisation layers and other vectors stay.
    """
    generator = torch.Generator().manual_seed(seed)
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.is_floating_point():
                continue
            if id(parameter) in tables:
                parameter.normal_(0.0, embedding, generator=generator)
            elif parameter.ndim >= 2:
                parameter.normal_(0.0, gain / math.sqrt(parameter[0].numel()), generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.1, generator=generator)
    model.eval()
