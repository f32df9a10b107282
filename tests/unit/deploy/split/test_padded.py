"""Padding is declared only for networks whose answers it leaves alone."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from torch import nn

from conch.deploy.split.network import Network
from conch.deploy.split.padded import inexact, with_exact_padding
from conch.deploy.split.parts import CannotSplit, CorePart, PaddedAxis, PythonPart, Split
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType


class MaskedMean(nn.Module):
    """What a well-behaved network does."""

    def forward(self, numbers: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        weights = mask.float()
        return ((numbers.float() * weights).sum(-1) / weights.sum(-1),)


class Last(nn.Module):
    """Reads the last position, whatever the mask says."""

    def forward(self, numbers: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (numbers[..., -1].float() + 0 * mask.sum(-1),)


class Doubled(nn.Module):
    """One number a position."""

    def forward(self, numbers: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (numbers.float() * mask,)


def network(module: nn.Module, dims: tuple[int, ...] = (-1,), answer: tuple[int, ...] = ()) -> Network:
    names = ("numbers", "mask")
    shape = (1, *(3 for _ in dims))
    sample = {"numbers": np.arange(1, 1 + 3 ** len(dims)).reshape(shape), "mask": np.ones(shape, np.int64)}
    return Network(
        module=module.eval(),
        inputs=tuple(TensorSpec(name, DataType.INT64, dims, "") for name in names),
        outputs=(TensorSpec("answer", DataType.FP32, answer, ""),),
        axes={},
        samples=(sample,),
    )


def padding(axis: int = 0, **cut: int) -> tuple[PaddedAxis, ...]:
    return (PaddedAxis("sequence", {"numbers": (axis, 0), "mask": (axis, 0)}, cut),)


def split_around(of: Network, axes: tuple[PaddedAxis, ...], renamed: str = "numbers") -> Split:
    text = TensorSpec("text", DataType.BYTES, (1,), "")
    preprocess = PythonPart(
        suffix="preprocess",
        stage="preprocess",
        summary="",
        template="tokenize_text.py",
        inputs=(text,),
        outputs=of.inputs,
        output_map={} if renamed == "numbers" else {"numbers": renamed},
    )
    core = CorePart(
        suffix="core",
        stage="core",
        summary="",
        inputs=of.inputs,
        outputs=of.outputs,
        network=of,
        padding=axes,
        input_map={} if renamed == "numbers" else {"numbers": renamed},
    )
    return Split((preprocess, core))


def test_masked_network_may_be_padded() -> None:
    assert inexact(network(MaskedMean()), padding()) == ""


def test_network_that_reads_the_last_position_may_not() -> None:
    assert inexact(network(Last()), padding()) == "answer changes by 3 when its input is padded along 'sequence'"


def test_positions_that_padding_adds_are_cut_before_they_are_compared() -> None:
    assert inexact(network(Doubled(), answer=(-1,)), padding(answer=0)) == ""


def test_split_of_an_exact_network_stays_as_it_is() -> None:
    split = split_around(network(MaskedMean()), padding())
    assert with_exact_padding(split) == split


@pytest.mark.parametrize("tensor", ["numbers", "network_numbers"])
def test_inexact_network_is_not_padded_and_its_preprocess_refuses_unequal_rows(tensor: str) -> None:
    found = with_exact_padding(split_around(network(Last()), padding(), tensor))
    preprocess, core = found.parts
    assert isinstance(core, CorePart)
    assert isinstance(preprocess, PythonPart)
    assert core.padding == ()
    assert [(key, value) for key, value, _ in preprocess.settings] == [("unpadded", "numbers mask")]


def test_inexact_network_of_several_texts_a_request_cannot_be_split() -> None:
    split = split_around(network(Last(), (-1, -1), (-1,)), padding(axis=1))
    with pytest.raises(CannotSplit, match="answer changes by"):
        with_exact_padding(split)
