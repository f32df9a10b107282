"""Windows of a feature map (Swin), whatever its size, in operations that an export can follow.

Swin pads its maps until windows divide them, where they do not, and cuts the padding off again. A trace would hold
whether the image it was made with needed that. What stands for it while a network is traced always pads, by 0 where
nothing is missing.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from conch.deploy.split.traced import swapped

_LIBRARY = "transformers.models.swin.modeling_swin"
#: What a layer is told of its padding: that it has some to cut off.
_PADDED = (1,) * 6


@contextlib.contextmanager
def followed_windows() -> Iterator[None]:
    """The library pads by these, if it was ever asked for such a network."""
    library: Any = sys.modules.get(_LIBRARY)
    if library is None:
        yield
        return
    patched = {
        library.SwinPatchEmbeddings: _pad_pixels,
        library.SwinPatchMerging: _pad_pairs,
        library.SwinLayer: _pad_windows,
    }
    with contextlib.ExitStack() as stack:
        for kind, pad in patched.items():
            stack.enter_context(swapped(kind, "maybe_pad", pad))
        yield


def _pad_pixels(module: Any, pixels: torch.Tensor, height: Any, width: Any) -> torch.Tensor:
    """Pixels [batch, channels, height, width] of whole patches."""
    high, wide = module.patch_size
    return nn.functional.pad(pixels, (0, _missing(width, wide), 0, _missing(height, high)))


def _pad_pairs(module: Any, features: torch.Tensor, height: Any, width: Any) -> torch.Tensor:
    """A map [batch, height, width, channels] of even height and width."""
    return nn.functional.pad(features, (0, 0, 0, _missing(width, 2), 0, _missing(height, 2)))


def _pad_windows(module: Any, features: torch.Tensor, height: Any, width: Any) -> tuple[torch.Tensor, tuple[int, ...]]:
    """A map [batch, height, width, channels] of whole windows, and that it was padded."""
    edge = module.window_size
    return nn.functional.pad(features, (0, 0, 0, _missing(width, edge), 0, _missing(height, edge))), _PADDED


def _missing(size: Any, divisor: int) -> Any:
    return (divisor - size % divisor) % divisor
