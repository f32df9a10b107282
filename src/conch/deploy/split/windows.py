"""Attention in windows (Longformer), in operations that an export can follow to texts of any length.

The library's own cuts a text into overlapping windows with views whose sizes a trace holds fixed. What stands for it
while a network is traced computes the same: each piece of a text looks at itself and its neighbours, of which a band
counts.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad, softmax

_ATTENTION = "LongformerSelfAttention"


def follow_windows(network: nn.Module) -> int:
    """Have the layers of a network that look at windows compute piece by piece while they are traced, else as they do.

    Returns the tokens of the longest window, 0 for a network without.
    """
    layers: list[Any] = [module for module in network.modules() if type(module).__name__ == _ATTENTION]
    for layer in layers:
        layer.forward = types.MethodType(_traced_otherwise, layer)
    return max((2 * layer.one_sided_attn_window_size for layer in layers), default=0)


def _traced_otherwise(layer: Any, *arguments: Any, **keywords: Any) -> Any:
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return (windowed_attention if tracing else type(layer).forward)(layer, *arguments, **keywords)


def windowed_attention(
    layer: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor,
    is_index_masked: torch.Tensor,
    is_global_attn: bool = False,
    **_: Any,
) -> tuple[torch.Tensor]:
    """What the layer's own `forward` answers, if the first token alone looks at all others and is seen by all.

    Args:
        hidden_states: [batch, tokens, size]; tokens are a multiple of the window.
        attention_mask: [batch, tokens], 0 for tokens that windows see; masked and global ones are others.
        is_index_masked: [batch, tokens].
    """
    reach, lowest = layer.one_sided_attn_window_size, torch.finfo(hidden_states.dtype).min
    query = _heads(layer, layer.query(hidden_states)) / layer.head_dim**0.5
    key, value = _heads(layer, layer.key(hidden_states)), _heads(layer, layer.value(hidden_states))

    seen = (attention_mask == 0).to(query.dtype)[:, None, :, None]
    offset = torch.arange(3 * reach) - torch.arange(reach)[:, None]
    band = (offset >= 0) & (offset <= 2 * reach)
    hidden = (_around(seen, reach).transpose(-1, -2) == 0) | ~band
    scores = torch.matmul(_pieces(query, reach), _around(key, reach).transpose(-1, -2)).masked_fill(hidden, lowest)
    if is_global_attn:
        first = torch.matmul(query, key[:, :, :1].transpose(-1, -2))
        scores = torch.cat([_pieces(first, reach), scores], dim=-1)
    shares = softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    shares = shares.masked_fill(_pieces(is_index_masked[:, None, :, None], reach), 0.0)

    if not is_global_attn:
        return (_joined(torch.matmul(shares, _around(value, reach)).flatten(2, 3)),)
    found = torch.matmul(shares[..., 1:], _around(value, reach)) + shares[..., :1] * value[:, :, None, :1]
    query = _heads(layer, layer.query_global(hidden_states[:, :1])) / layer.head_dim**0.5
    key, value = _heads(layer, layer.key_global(hidden_states)), _heads(layer, layer.value_global(hidden_states))
    scores = torch.matmul(query, key.transpose(-1, -2)).masked_fill(is_index_masked[:, None, None, :], lowest)
    shares = softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return (torch.cat([_joined(torch.matmul(shares, value)), _joined(found.flatten(2, 3))[:, 1:]], dim=1),)


def _heads(layer: Any, states: torch.Tensor) -> torch.Tensor:
    """[batch, tokens, size] as [batch, heads, tokens, size of a head]."""
    return torch.unflatten(states, -1, (layer.num_heads, layer.head_dim)).transpose(1, 2)


def _joined(states: torch.Tensor) -> torch.Tensor:
    """[batch, heads, tokens, size of a head] as [batch, tokens, size]."""
    return states.transpose(1, 2).flatten(2)


def _pieces(states: torch.Tensor, length: int) -> torch.Tensor:
    """[batch, heads, tokens, size] as [batch, heads, pieces, length, size]."""
    return torch.unflatten(states, 2, (-1, length))


def _around(states: torch.Tensor, length: int) -> torch.Tensor:
    """Each piece with its neighbours, [batch, heads, pieces, 3 * length, size]; 0 beyond the ends."""
    padded = pad(states, (0, 0, length, length))
    parts = (padded[:, :, : -2 * length], states, padded[:, :, 2 * length :])
    return torch.cat([_pieces(part, length) for part in parts], dim=3)
