"""Texts in, batches of tokens through the model: padding costs more than batching gains unless lengths are alike, and
some networks see it whatever the mask says."""

from __future__ import annotations

from typing import Any

import torch
from hf_serving import Settings

MAX_FORWARD_SIZE = 64  # encodings in one call of the model
PROBES = ("One.", "One, two, three, four, five, six, seven.")  # texts of unequal length


def length_groups(lengths: list[int], max_padding: float) -> list[list[int]]:
    """Indices, grouped so that a group padded to its longest holds at most `max_padding` times its real tokens."""
    groups: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[index]
        group = groups[-1] if groups else []
        fits = 0 < len(group) < MAX_FORWARD_SIZE and length * (len(group) + 1) <= max_padding * (tokens + length)
        if fits:
            group.append(index)
            tokens += length
        else:
            groups.append([index])
            tokens = length
    return groups


def pad(encodings: list[dict[str, torch.Tensor]], tokenizer: Any) -> dict[str, torch.Tensor]:
    """Encodings of [1, length] tensors as one batch, padded on the tokenizer's side."""
    longest = max(encoding["input_ids"].shape[1] for encoding in encodings)
    fill = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}

    def widen(name: str, tensor: torch.Tensor) -> torch.Tensor:
        missing = longest - tensor.shape[1]
        sides = (missing, 0) if tokenizer.padding_side == "left" else (0, missing)
        return torch.nn.functional.pad(tensor, sides, value=fill.get(name, 0))

    return {name: torch.cat([widen(name, encoding[name]) for encoding in encodings]) for name in encodings[0]}


def check_lengths(encodings: list[dict[str, torch.Tensor]], model: Any, tokenizer: Any) -> None:
    """Raise for an encoding longer than the model can take, in words that a client understands."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not positions or getattr(model.config, "relative_attention", False):
        return
    limit = min(positions, tokenizer.model_max_length)
    longest = max(encoding["input_ids"].shape[1] for encoding in encodings)
    if longest > limit > 0:
        raise ValueError(
            f"the text has {longest} tokens, the model takes at most {limit}: send a shorter text or the request "
            f"parameter truncation=true"
        )


def settle_padding(model: Any, tokenizer: Any, settings: Settings) -> None:
    """Batch texts of equal length only, if the model answers otherwise when its texts are padded (MobileBERT, ConvBERT,
    Nystromformer) and the setting `max_padding` does not say what to do."""
    if "max_padding" not in settings.values and not padding_is_exact(model, tokenizer):
        settings.max_padding = 1.0


def padding_is_exact(model: Any, tokenizer: Any) -> bool:
    """Whether a padded text is answered as it is alone, but for rounding."""
    try:
        with torch.inference_mode():
            encodings = [tokenizer(text, return_tensors="pt") for text in PROBES]
            alone, padded = (forward_texts(model, tokenizer, encodings, most) for most in (1.0, float("inf")))
    except Exception:  # whatever a model raises that cannot be padded
        return False
    tolerance = 1e-3 if model.dtype.itemsize >= 4 else 5e-2
    return all(
        value.shape == got[name].shape and (value - got[name]).abs().max() <= tolerance * value.abs().max().clamp(1e-3)
        for want, got in zip(alone, padded, strict=True)
        for name, value in want.items()
        if value.is_floating_point()
    )


def forward_texts(
    model: Any, tokenizer: Any, encodings: list[dict[str, torch.Tensor]], max_padding: float
) -> list[dict[str, torch.Tensor]]:
    """The model's outputs for each encoding ([1, length] tensors), as if it had been run alone.

    Texts share a call of the model if that makes at most `max_padding` times their own tokens of them.
    """
    names = [name for name in encodings[0] if name in (*tokenizer.model_input_names, "input_ids", "attention_mask")]
    encodings = [{name: encoding[name] for name in names} for encoding in encodings]
    lengths = [encoding["input_ids"].shape[1] for encoding in encodings]
    max_padding = max_padding if "attention_mask" in names else 1.0
    outputs: list[dict[str, torch.Tensor]] = [{} for _ in encodings]
    for group in length_groups(lengths, max_padding):
        batch = pad([encodings[index] for index in group], tokenizer)
        output = model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
        longest = batch["input_ids"].shape[1]
        for row, index in enumerate(group):
            own = slice(-lengths[index], None) if tokenizer.padding_side == "left" else slice(0, lengths[index])
            for name, value in output.items():
                if isinstance(value, torch.Tensor) and value.dim() > 1:
                    one = value[row : row + 1].cpu()
                    outputs[index][name] = one[:, own] if one.dim() > 2 and one.shape[1] == longest else one
    return outputs
