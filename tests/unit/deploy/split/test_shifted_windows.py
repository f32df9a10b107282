"""A trace follows how Swin divides maps of any size into windows."""

from __future__ import annotations

import io
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
shifted_windows = pytest.importorskip("conch.deploy.split.shifted_windows")
Traced = pytest.importorskip("conch.deploy.split.traced").Traced

#: Height and width of images of which windows divide all maps, or none, or those of one side.
SIZES = ((48, 48), (43, 57), (96, 49), (33, 24))


class Maps(torch.nn.Module):
    """The last feature map of a small Swin backbone whose windows are 3 wide."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        configuration = transformers.SwinConfig(
            image_size=48,
            embed_dim=8,
            depths=[2, 2],
            num_heads=[2, 2],
            window_size=3,
            out_features=["stage1", "stage2"],
        )
        self.network = transformers.SwinBackbone(configuration)

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.network(pixels).feature_maps[-1]


def traced(module: Any, height: int, width: int) -> Any:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, torch.ones(1, 3, height, width), check_trace=False), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


@pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:`torch.jit:DeprecationWarning", "ignore:`is_gradient:FutureWarning"
)
@pytest.mark.parametrize("size", SIZES[:2])
def test_trace_of_one_size_serves_others(size: tuple[int, int]) -> None:
    whole = Maps().eval()
    made = traced(Traced(whole, shifted_windows.followed_windows).eval(), *size)
    with torch.inference_mode():
        for other in SIZES:
            pixels = torch.randn(2, 3, *other)
            torch.testing.assert_close(made(pixels), whole(pixels))


def test_library_is_as_before_when_the_trace_ends() -> None:
    library = pytest.importorskip("transformers.models.swin.modeling_swin")
    kinds = (library.SwinPatchEmbeddings, library.SwinPatchMerging, library.SwinLayer)
    before = [kind.maybe_pad for kind in kinds]

    class Failing(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            assert [kind.maybe_pad for kind in kinds] != before
            return pixels * (1 / 0)

    with pytest.raises(ZeroDivisionError):
        torch.jit.trace(Traced(Failing(), shifted_windows.followed_windows), torch.ones(1), check_trace=False)
    assert [kind.maybe_pad for kind in kinds] == before
