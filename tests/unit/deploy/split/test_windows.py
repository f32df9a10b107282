"""Attention in windows that an export can follow is that of the library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
longformer = pytest.importorskip("transformers.models.longformer.modeling_longformer")
windows = pytest.importorskip("conch.deploy.split.windows")

WINDOW = 4


@pytest.fixture
def layer() -> Any:
    config = longformer.LongformerConfig(hidden_size=8, num_attention_heads=2, attention_window=[WINDOW])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return longformer.LongformerSelfAttention(config, layer_id=0).eval()


def arguments(tokens: int, masked: int, *, first_is_global: bool) -> dict[str, Any]:
    """A text of that many tokens, and a second one whose last `masked` tokens are padding."""
    mask = torch.zeros(2, tokens)
    mask[1, tokens - masked :] = -10000.0
    if first_is_global:
        mask[:, 0] = 10000.0
    states = torch.from_numpy(np.random.default_rng(tokens).normal(size=(2, tokens, 8)).astype(np.float32))
    return {
        "hidden_states": states,
        "attention_mask": mask,
        "is_index_masked": mask < 0,
        "is_index_global_attn": mask > 0,
        "is_global_attn": first_is_global,
    }


@pytest.mark.parametrize("first_is_global", [True, False])
@pytest.mark.parametrize(("tokens", "masked"), [(4, 0), (4, 2), (8, 5), (20, 0), (20, 7)])
def test_windows_see_what_the_library_has_them_see(layer: Any, tokens: int, masked: int, first_is_global: bool) -> None:
    sent = arguments(tokens, masked, first_is_global=first_is_global)
    with torch.inference_mode():
        (want,), (got,) = layer(**sent), windows.windowed_attention(layer, **sent)
    real = ~sent["is_index_masked"]
    np.testing.assert_allclose(got[real], want[real], atol=1e-5)


def test_layer_is_the_librarys_own_but_while_it_is_traced(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert windows.follow_windows(torch.nn.Sequential(layer)) == WINDOW
    sent = arguments(8, 0, first_is_global=True)
    with torch.inference_mode():
        (own,) = layer(**sent)
        np.testing.assert_array_equal(own, longformer.LongformerSelfAttention.forward(layer, **sent)[0])

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, states: Any) -> Any:
            length = states.shape[1]
            mask = torch.zeros_like(states[:, :length, 0])
            masks = {"attention_mask": mask, "is_index_masked": mask < 0, "is_global_attn": False}
            return self.layer(states, **masks)[0]

    with torch.no_grad():
        traced = torch.jit.trace(Attention(), sent["hidden_states"], check_trace=False)
        longer = arguments(28, 0, first_is_global=False)
        np.testing.assert_allclose(traced(longer["hidden_states"]), layer(**longer)[0], atol=1e-5)


def test_other_networks_have_no_windows() -> None:
    assert windows.follow_windows(torch.nn.Linear(2, 2)) == 0
