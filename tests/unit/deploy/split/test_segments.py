"""Reductions of segments that an export can follow are those of the library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tapas = pytest.importorskip("transformers.models.tapas.modeling_tapas")
segments = pytest.importorskip("conch.deploy.split.segments")
Traced = pytest.importorskip("conch.deploy.split.traced").Traced

COUNT = 6


def drawn(rows: int, items: int) -> tuple[Any, Any]:
    """Values, and the segment of each; segment 5 is empty."""
    chance = np.random.default_rng(items)
    values = torch.from_numpy(chance.normal(0, 3, (rows, items)).astype(np.float32))
    return values, torch.from_numpy(chance.integers(0, COUNT - 1, (rows, items)))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("how", ["sum", "mean", "amin", "amax"])
@pytest.mark.parametrize(("rows", "items"), [(1, 1), (2, 9), (3, 40)])
def test_segments_are_reduced_as_the_library_reduces_them(rows: int, items: int, how: str, whole: bool) -> None:
    values, index = drawn(rows, items)
    values = values.long() if whole and how != "mean" else values
    want, _ = tapas._segment_reduce(values, tapas.IndexMap(index, COUNT, batch_dims=1), how, "")
    got = segments.reduced(values, index, COUNT, how)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, atol=1e-5)


class Means(torch.nn.Module):
    """Each value's mean of its segment, by the library."""

    def forward(self, values: Any, index: Any) -> Any:
        cells = tapas.IndexMap(index, COUNT, batch_dims=1)
        means, places = tapas.reduce_mean(values, cells)
        first, _ = tapas.reduce_min(values, cells)
        return tapas.gather(means, cells), tapas.gather(first, cells), places.indices


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_trace_follows_batches_and_lengths_and_the_library_is_itself_again() -> None:
    own, module = tapas._segment_reduce, Traced(Means(), segments.followed_segments).eval()
    traced = torch.jit.trace(module, drawn(2, 9), check_trace=False)
    assert tapas._segment_reduce is own
    for size in ((1, 4), (3, 40)):
        for got, want in zip(traced(*drawn(*size)), module(*drawn(*size)), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_library_is_itself_again_after_a_trace_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(torch.nn.Module):
        def forward(self, values: Any) -> Any:
            assert tapas._segment_reduce is not own
            raise ValueError("no")

    own = tapas._segment_reduce
    monkeypatch.setattr(torch.jit, "is_tracing", lambda: True)
    with pytest.raises(ValueError, match="no"):
        Traced(Failing(), segments.followed_segments)(torch.ones(1))
    assert tapas._segment_reduce is own
