"""Further families that write text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .recipes import SIZES, Write, writes_text

_GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 512}
_PLAIN: dict[str, Any] = {**SIZES, "max_position_embeddings": 512}

RECIPES: Mapping[str, Write] = {
    "text-generation.mistral": writes_text("MistralForCausalLM", **_GROUPED, sliding_window=64),
    "text-generation.mixtral": writes_text("MixtralForCausalLM", **_GROUPED, num_local_experts=2),
    "text-generation.qwen3": writes_text("Qwen3ForCausalLM", **_GROUPED, head_dim=8),
    "text-generation.phi3": writes_text("Phi3ForCausalLM", **_GROUPED),
    "text-generation.gemma2": writes_text("Gemma2ForCausalLM", **_GROUPED, head_dim=8, sliding_window=64),
    "text-generation.opt": writes_text(
        "OPTForCausalLM",
        hidden_size=32,
        word_embed_proj_dim=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        max_position_embeddings=512,
    ),
    "text-generation.bloom": writes_text("BloomForCausalLM", hidden_size=32, n_layer=2, n_head=4),
    "text-generation.gpt-neox": writes_text("GPTNeoXForCausalLM", **_PLAIN),
    "text-generation.falcon": writes_text(
        "FalconForCausalLM", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_hidden_size=64
    ),
    "text-generation.mamba": writes_text("MambaForCausalLM", hidden_size=32, num_hidden_layers=2, state_size=8),
}
