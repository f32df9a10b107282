"""Networks of real architectures, by every engine, on sizes other than those they were exported with."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conch.deploy.export import BACKENDS, ExportOptions, export_best
from conch.deploy.export.prove import worst
from conch.deploy.split.network import Network
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType
from tests.unit.deploy.export.networks import TOKENS, tokens


class Call(nn.Module):
    """A model called with keywords, and fields of its answer."""

    def __init__(self, call: Callable[..., Any], model: nn.Module, names: tuple[str, ...], fields: tuple[str, ...]):
        super().__init__()
        self.model, self.call, self.names, self.fields = model, call, names, fields

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answer = self.call(**dict(zip(self.names, tensors, strict=True)))
        return tuple(answer[field] for field in self.fields) if self.fields else (answer.pooler_output,)


def images(batch: int, size: int) -> dict[str, np.ndarray]:
    return {"pixel_values": np.random.default_rng(batch).standard_normal((batch, 3, size, size)).astype(np.float32)}


def text_tower(
    model: nn.Module, call: Callable[..., Any], names: tuple[str, ...], **outputs: tuple[int, ...]
) -> Network:
    samples = tuple({name: each[name] for name in names} for each in (tokens(2, 8), tokens(1, 5), tokens(4, 13)))
    return Network(
        module=Call(call, model, names, () if "embeds" in outputs else tuple(outputs)),
        inputs=tuple(TensorSpec(name, DataType.INT64, (-1,), "") for name in names),
        outputs=tuple(TensorSpec(name, DataType.FP32, dims, "") for name, dims in outputs.items()),
        axes=dict.fromkeys(names, TOKENS)
        | {name: TOKENS if -1 in dims else {0: "batch"} for name, dims in outputs.items()},
        samples=samples,
        mask="attention_mask",
    )


def image_tower(model: nn.Module, call: Callable[..., Any], size: int, **outputs: tuple[int, ...]) -> Network:
    return Network(
        module=Call(call, model, ("pixel_values",), () if "embeds" in outputs else tuple(outputs)),
        inputs=(TensorSpec("pixel_values", DataType.FP32, (3, size, size), ""),),
        outputs=tuple(TensorSpec(name, DataType.FP32, dims, "") for name, dims in outputs.items()),
        axes={"pixel_values": {0: "batch"}} | {name: {0: "batch"} for name in outputs},
        samples=(images(2, size), images(1, size), images(5, size)),
    )


def bert(path: Path) -> Network:
    from transformers import BertModel

    model = BertModel.from_pretrained(path, add_pooling_layer=False)
    names = ("input_ids", "attention_mask", "token_type_ids")
    return text_tower(model, model, names, last_hidden_state=(-1, model.config.hidden_size))


def clip_text(path: Path) -> Network:
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(path)
    names = ("input_ids", "attention_mask")
    return text_tower(model, model.get_text_features, names, embeds=(model.config.projection_dim,))


def clip_image(path: Path) -> Network:
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(path)
    return image_tower(model, model.get_image_features, 32, embeds=(model.config.projection_dim,))


def vit(path: Path) -> Network:
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(path)
    return image_tower(model, model, model.config.image_size, logits=(model.config.num_labels,))


NETWORKS = {
    "bert": (bert, "feature-extraction"),
    "clip text": (clip_text, "zero-shot-image-classification"),
    "clip image": (clip_image, "zero-shot-image-classification"),
    "vit": (vit, "image-classification"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tower_answers_as_its_module_does_on_other_sizes(
    name: str, backend: str, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    make, checkpoint = NETWORKS[name]
    exported = export_best(make(checkpoint_of(checkpoint)), tmp_path, ExportOptions(backend=backend))
    assert exported.backend == backend
    assert worst(exported.proof).difference < 1e-5
    assert exported.dropped == ()
