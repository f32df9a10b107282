"""Torch modules around a checkpoint's network: positional tensors in, a tuple of tensors out, arithmetic folded in.

Every module here is batch-exact: a row's result does not depend on the rows beside it. Texts are padded on the right,
and rows of texts without a single token are padding of a request that has fewer texts than its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

#: What `activation` may hold, by the names that pipelines give functions.
ACTIVATIONS = {"none": 0, "softmax": 1, "sigmoid": 2}


class Keyword(nn.Module):
    """A network that takes its arguments by name, called with tensors in the order of `names`; its output as it is.

    Args:
        model: a module, or a bound method of one in `call`.
        names: the keyword of each tensor.
        constants: keywords that are the same for every call.
        call: name of the method to call; "" for the module itself.
    """

    def __init__(
        self, model: nn.Module, names: Sequence[str], constants: Mapping[str, Any] | None = None, call: str = ""
    ) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)
        self.constants = dict(constants or {})
        self.call = call

    def forward(self, *tensors: torch.Tensor) -> Any:
        call = getattr(self.model, self.call) if self.call else self.model
        return call(**dict(zip(self.names, tensors, strict=True)), **self.constants)


class Fields(nn.Module):
    """The named fields of a network's output, floating ones as FP32."""

    def __init__(self, network: nn.Module, fields: Sequence[str | int]) -> None:
        super().__init__()
        self.network = network
        self.fields = tuple(fields)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.network(*tensors)
        return tuple(_as_float32(output[field]) for field in self.fields)


class Classifier(nn.Module):
    """Inputs and `activation` INT32 [batch, 1] -> logits, scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        *inputs, activation = tensors
        logits = self.network(*inputs).logits.float()
        scores = torch.where(activation == ACTIVATIONS["sigmoid"], logits.sigmoid(), logits)
        return logits, torch.where(activation == ACTIVATIONS["softmax"], logits.softmax(-1), scores)


class TokenStates(nn.Module):
    """One vector a token; those of padding are 0. The attention mask is input number `mask`."""

    def __init__(self, network: nn.Module, mask: int) -> None:
        super().__init__()
        self.network = network
        self.mask = mask

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor]:
        states = self.network(*tensors)[0].float()
        return (torch.where(tensors[self.mask][:, :, None] > 0, states, 0.0),)


class MaskedTokens(nn.Module):
    """Tokens, and INT64 [batch, masks] which of them are asked for -> the score of every word there.

    Args:
        network: a language model with a head over its vocabulary.
        body: name of the module in the model whose states the head reads. The head then runs at those positions alone,
            which for a large vocabulary is most of the work; "" where that is not the same.
    """

    def __init__(self, network: Keyword, body: str) -> None:
        super().__init__()
        self.network = network
        self.body = body

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor]:
        *inputs, positions = tensors
        return (logits_at(self.network, inputs, positions, self.body).softmax(-1),)


class LabelLogits(nn.Module):
    """A language model on [batch, texts, sequence] -> the logits of chosen tokens at chosen places of each text.

    Beside the tokens it takes `marks` INT64 [batch, texts, places], how many tokens are before each place (the last of
    them is read), and `labels` INT64 [batch, texts, places, options], the tokens whose logits are the answer. Texts
    without a token (padding) repeat the first one.

    Args:
        network: a language model with a head over its vocabulary.
        body: as `MaskedTokens` takes it.
        mask: number of the attention mask among the token tensors.
    """

    def __init__(self, network: Keyword, body: str, mask: int) -> None:
        super().__init__()
        self.network = network
        self.body = body
        self.mask = mask

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor]:
        *tokens, marks, labels = tensors
        real = tokens[self.mask].flatten(0, 1).sum(dim=-1, keepdim=True) > 0
        rows = (torch.where(real, each, each[:1]) for each in (token.flatten(0, 1) for token in tokens))
        logits = logits_at(self.network, list(rows), (marks.flatten(0, 1) - 1).clamp(min=0), self.body)
        return (logits.gather(2, labels.flatten(0, 1)).reshape(labels.shape),)


def logits_at(network: Keyword, inputs: Sequence[torch.Tensor], positions: torch.Tensor, body: str) -> torch.Tensor:
    """The logits of a language model's whole vocabulary, of [rows, sequence] tokens those at positions [rows, places].

    Args:
        body: name of the module in the model whose states the head reads, so that the head runs at those positions
            alone; "" for all tokens.
    """
    if not body:
        return _at(network(*inputs).logits.float(), positions)

    def picked(module: nn.Module, arguments: Any, output: Any) -> Any:
        output["last_hidden_state"] = _at(output["last_hidden_state"], positions)
        return output

    hook = getattr(network.model, body).register_forward_hook(picked)
    try:
        logits: torch.Tensor = network(*inputs).logits.float()
        return logits
    finally:
        hook.remove()


def _at(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Of values [batch, sequence, size] those at positions [batch, chosen]."""
    return values.gather(1, positions[:, :, None].expand(-1, -1, values.shape[-1]))


class Embedding(nn.Module):
    """One vector a text: pooled, projected, scaled to length 1 where `normalize` BOOL [batch, 1], the last input, says.

    Args:
        network: gives token vectors [batch, sequence, hidden size] as its first output.
        mask: number of the attention mask among the inputs.
        pooling: names of sentence-transformers' pooling modes; their vectors are concatenated.
        dense: projections after pooling.
    """

    def __init__(self, network: nn.Module, mask: int, pooling: Sequence[str], dense: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.mask = mask
        self.pooling = tuple(pooling)
        self.dense = dense

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor]:
        *inputs, normalize = tensors
        states = self.network(*inputs)[0].float()
        mask = inputs[self.mask][:, :, None].float()
        vector = self.dense(torch.cat([pool(states, mask, mode) for mode in self.pooling], dim=-1))
        return (torch.where(normalize, unit(vector), vector),)


def pool(states: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    """One vector [batch, size] of token states [batch, sequence, size] under a mask [batch, sequence, 1]."""
    if mode == "cls":
        return states[:, 0]
    if mode == "max":
        return states.masked_fill(mask == 0, torch.finfo(states.dtype).min).max(dim=1).values
    if mode == "lasttoken":
        last = mask.sum(dim=1, keepdim=True).long() - 1
        return states.gather(1, last.expand(-1, -1, states.shape[-1])).squeeze(1)
    if mode == "weightedmean":
        mask = mask * mask.cumsum(dim=1)
    total, count = (states * mask).sum(dim=1), mask.sum(dim=1).clamp(min=1e-9)
    return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)


def unit(vector: torch.Tensor) -> torch.Tensor:
    """Scaled to length 1 along the last axis."""
    length: torch.Tensor = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return vector / length.clamp(min=1e-12)


class Flattened(nn.Module):
    """A network of [rows, sequence, ..] tensors for [batch, texts, sequence, ..]; outputs get the two axes back.

    Rows without a token (padding) repeat the first row, so that no network sees a text it cannot take; what comes out
    for them is 0.
    """

    def __init__(self, network: nn.Module, mask: int) -> None:
        super().__init__()
        self.network = network
        self.mask = mask

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch, texts, length = tensors[self.mask].shape
        rows = [tensor.reshape(batch * texts, length, *tensor.shape[3:]) for tensor in tensors]
        real = rows[self.mask].sum(dim=-1, keepdim=True) > 0
        outputs = self.network(*(torch.where(_as_wide(real, row), row, row[:1]) for row in rows))
        return tuple(
            torch.where(real, output.reshape(batch * texts, -1), 0.0).reshape(batch, texts, *output.shape[1:])
            for output in outputs
        )


def _as_wide(real: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """[rows, 1] with as many axes as a tensor."""
    return real if row.dim() == 2 else real.reshape(-1, *[1] * (row.dim() - 1))


class Parts(nn.Module):
    """A network of [rows, ..] tensors for tensors [batch, parts, ..]; outputs get the two axes back."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch, parts = tensors[0].shape[:2]
        outputs = self.network(*(tensor.flatten(0, 1) for tensor in tensors))
        return tuple(output.reshape(batch, parts, *output.shape[1:]) for output in outputs)


class TextQueries(nn.Module):
    """A detector that looks for texts: images [batch, ..], tokens [batch, texts, sequence] -> logits [batch, places,
    texts], boxes [batch, places, 4].

    Texts without a token (padding) repeat the first one, and get the logit 0.

    Args:
        network: takes the images once and the texts of all of them one below the other.
        mask: number of the attention mask among the token tensors.
    """

    def __init__(self, network: nn.Module, mask: int) -> None:
        super().__init__()
        self.network = network
        self.mask = mask

    def forward(self, pixels: torch.Tensor, *tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        real = tokens[self.mask].sum(dim=-1, keepdim=True) > 0
        rows = (torch.where(real, each, each[:1, :1]).flatten(0, 1) for each in tokens)
        output = self.network(pixels, *rows)
        return torch.where(real.transpose(1, 2), output.logits.float(), 0.0), output.pred_boxes.float()


class Ranker(nn.Module):
    """A cross-encoder on [rows, sequence] -> scores [rows]."""

    def __init__(self, network: nn.Module, activation: str) -> None:
        super().__init__()
        self.network = network
        self.activation = activation

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor]:
        scores = self.network(*tensors).logits[:, 0].float()
        return (scores.sigmoid() if self.activation == "sigmoid" else scores,)


class Tower(nn.Module):
    """One side of a dual encoder: unit vectors [rows, dimension].

    Args:
        network: gives the projected features, as a tensor or as `pooler_output`.
        inputs: how many of the tensors the network takes, counted from the first.
    """

    def __init__(self, network: nn.Module, inputs: int) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor]:
        output = self.network(*tensors[: self.inputs])
        features = output if isinstance(output, torch.Tensor) else output.pooler_output
        return (unit(features.float()),)


class Similarity(nn.Module):
    """Unit vectors of a medium [batch, d] and of texts [batch, texts, d] -> logits, probabilities [batch, texts].

    A text whose vector is 0 is padding: its logit and probability are 0.
    """

    scale: torch.Tensor
    bias: torch.Tensor

    def __init__(self, scale: torch.Tensor, bias: torch.Tensor, *, sigmoid: bool) -> None:
        super().__init__()
        self.register_buffer("scale", scale.detach().float().reshape(1, 1))
        self.register_buffer("bias", bias.detach().float().reshape(1, 1))
        self.sigmoid = sigmoid

    def forward(self, medium: torch.Tensor, texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        real = texts.abs().sum(dim=-1) > 0
        logits = torch.matmul(texts, medium[:, :, None]).squeeze(-1) * self.scale + self.bias
        if self.sigmoid:
            probs = logits.sigmoid()
        else:
            probs = logits.masked_fill(~real, torch.finfo(logits.dtype).min).softmax(dim=-1)
        return torch.where(real, logits, 0.0), torch.where(real, probs, 0.0)


def _as_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
