"""A trace follows the sizes that a network writes into tensors."""

from __future__ import annotations

import io
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from conch.deploy.split.traced import Traced
from conch.deploy.split.traced_sizes import followed_sizes


class Area(nn.Module):
    """Divides an image by its sizes, as deformable attention does with those of its feature maps."""

    def __init__(self, make: str) -> None:
        super().__init__()
        self.make = make

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        sizes = [(image.shape[1], image.shape[2]), (2, image.shape[2])]
        made = getattr(torch, self.make)(sizes, dtype=torch.float32, device=image.device)
        return image / made.prod()


def traced(module: nn.Module, *sizes: int) -> Any:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, torch.ones(1, *sizes), check_trace=False), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", ["tensor", "as_tensor"])
def test_trace_of_one_size_serves_another(make: str) -> None:
    module, image = Traced(Area(make), followed_sizes).eval(), torch.ones(1, 6, 5)
    torch.testing.assert_close(traced(module, 3, 4)(image), module(image))
    assert not torch.equal(traced(Area(make).eval(), 3, 4)(image), module(image)), "without it the size is a constant"


class Stacked(nn.Module):
    """Stacks stages along the batch and takes them apart again, as ZoeDepth does."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first, second = torch.cat([image, image * 2]).split(image.shape[0], dim=0)
        return first + second


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit:DeprecationWarning")
def test_trace_of_one_batch_serves_another() -> None:
    module, images = Traced(Stacked(), followed_sizes).eval(), torch.ones(3, 4)
    torch.testing.assert_close(traced(module, 4)(images), images * 3)


def test_torch_is_as_before_when_the_trace_ends() -> None:
    before = (torch.tensor, torch.as_tensor, torch.Tensor.split)
    with pytest.raises(ZeroDivisionError):
        torch.jit.trace(Traced(Failing(), followed_sizes), torch.ones(1), check_trace=False)
    assert (torch.tensor, torch.as_tensor, torch.Tensor.split) == before


class Failing(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * (1 / 0)
