"""Small networks to export, with samples of several sizes."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from conch.deploy.split.network import Network
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

TOKENS = {0: "batch", 1: "sequence"}


class Pooler(nn.Module):
    """Embeds tokens and returns their mean under the mask, and every token's score."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embedding = nn.Embedding(50, 16)
            self.linear = nn.Linear(16, 8)
            self.score = nn.Linear(8, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """`token_type_ids` is not used: exporters may drop it."""
        hidden = self.dropout(torch.tanh(self.linear(self.embedding(input_ids))))
        mask = attention_mask[..., None].to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1), self.score(hidden)


class WrongWhenExported(Pooler):
    """Exports without a complaint, to something else."""

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pooled, scores = super().forward(*tensors)
        exporting = torch.jit.is_tracing() or torch.compiler.is_exporting()
        return pooled, scores * (1.5 if exporting else 1.0)


class WrongWhenTraced(Pooler):
    """Tracing goes wrong, `torch.export` does not."""

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pooled, scores = super().forward(*tensors)
        return pooled, scores * (1.5 if torch.jit.is_tracing() else 1.0)


class BakesSequence(Pooler):
    """The length of the first sample becomes a constant."""

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pooled, scores = super().forward(*tensors)
        return pooled, scores / int(tensors[0].shape[1])


class CannotBeTraced(Pooler):
    """No exporter gets through it."""

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            raise RuntimeError("this operator has no\nsymbolic form")
        return super().forward(*tensors)


def tokens(batch: int, length: int) -> dict[str, np.ndarray]:
    """Token ids with padding in all rows but the first."""
    ids = np.random.default_rng(batch * 100 + length).integers(1, 50, (batch, length))
    mask = np.ones((batch, length), np.int64)
    for row in range(1, batch):
        mask[row, max(1, length - 2 * row) :] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def text_network(module: nn.Module | None = None, **changes: object) -> Network:
    """A network over token ids with outputs `pooled` [8] and `scores` [-1, 3]."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    values: dict[str, object] = {
        "module": module or Pooler().eval(),
        "inputs": tuple(TensorSpec(name, DataType.INT64, (-1,), "") for name in names),
        "outputs": (
            TensorSpec("pooled", DataType.FP32, (8,), ""),
            TensorSpec("scores", DataType.FP32, (-1, 3), ""),
        ),
        "axes": {**dict.fromkeys(names, TOKENS), "pooled": {0: "batch"}, "scores": TOKENS},
        "samples": (tokens(2, 6), tokens(1, 4), tokens(3, 11)),
        "mask": "attention_mask",
        **changes,
    }
    return Network(**values)  # type: ignore[arg-type]


class Echo:
    """A runner that answers what it was told, sample by sample."""

    inputs = ("input_ids", "attention_mask")
    device = "cpu"

    def __init__(self, answers: list[dict[str, np.ndarray]]) -> None:
        self._answers = iter(answers)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert set(feeds) == set(self.inputs)
        return next(self._answers)
