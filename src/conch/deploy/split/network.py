"""The part of a pipeline that an engine runs: a torch module with named tensors, and inputs to prove an export with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from conch.deploy.tasks import TensorSpec


class Network(msgspec.Struct, frozen=True):
    """A module ready to be exported.

    The module takes the inputs as positional tensors in the order of `inputs`, each with the batch dimension in front,
    and returns a tuple of tensors in the order of `outputs`, batch dimension in front. Everything that depends on the
    architecture (keyword names, output dictionaries, poolings, activations folded into the graph, inner dimensions that
    are flattened for the network and restored after it) is inside the module.

    Attributes:
        module: a `torch.nn.Module` in evaluation mode, on the CPU, in FP32 unless the user asked for another format.
        inputs: dims without the batch dimension; -1 for what varies from request to request.
        outputs: likewise.
        axes: tensor name -> {axis counted with the batch dimension: symbol}. Every -1 and the batch axis has a symbol;
            the same symbol is always the same size ("batch", "sequence", "labels", "height", "width", "frames").
        samples: inputs by name, with the batch dimension. The first is exported with (a padded batch of 2 or more where
            the task has texts); the others, of other batch sizes and other sizes of every symbol, prove the export.
        mask: name of the input that says which positions of "sequence" are real, "" where there is none: outputs with a
            "sequence" axis are compared under it.
        dtype: number format of the weights, as torch names it.
    """

    module: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    axes: Mapping[str, Mapping[int, str]]
    samples: tuple[Mapping[str, np.ndarray], ...]
    mask: str = ""
    dtype: str = "float32"
