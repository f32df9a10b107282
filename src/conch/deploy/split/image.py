"""Splits of the tasks on one image whose preprocess needs no transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from conch.deploy.samples import draw_image
from conch.deploy.split.axes import answers, axes_of, spec_of
from conch.deploy.split.heads import Classifier, Fields, Keyword
from conch.deploy.split.image_processor import light_image_processor
from conch.deploy.split.network import Network
from conch.deploy.split.parts import CorePart, PythonPart, Split
from conch.deploy.split.stages import ACTIVATION, activation_setting, classify_part, python_part, unpadded_setting
from conch.deploy.split.subject import Subject, constants, model_inputs
from conch.deploy.tasks import TensorSpec

_DOCS = {
    "pixel_values": "the image as the network takes it: [channels, height, width]",
    "pixel_mask": "1 for a pixel of the image, 0 for padding",
}
#: Numbers of the drawn images of each batch; the first is exported with. Images of one batch have one size.
_BATCHES = ((0, 2), (1, 1, 1), (2,))


def image_samples(processor: Any, names: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """What a processor makes of drawn images of several sizes, in batches of several sizes."""
    samples = []
    for batch in _BATCHES:
        rows = [processor(images=[draw_image(number)], return_tensors="np") for number in batch]
        samples.append({name: np.concatenate([np.asarray(row[name]) for row in rows]) for name in names})
    return samples


def network_of(
    module: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[str], samples: Sequence[dict[str, np.ndarray]]
) -> Network:
    """A network whose tensors have the sizes that its samples and its answers to them have."""
    module = module.eval()
    symbols: dict[tuple[int, ...], str] = {}
    axes: dict[str, Mapping[int, str]] = {}
    for spec in inputs:
        axes[spec.name] = axes_of(spec, [sample[spec.name] for sample in samples], symbols)
    answered = answers(module, [spec.name for spec in inputs], samples)
    specs = []
    for number, name in enumerate(outputs):
        arrays = [answer[number] for answer in answered]
        specs.append(spec_of(name, arrays, "an output of the network"))
        axes[name] = axes_of(specs[-1], arrays, symbols)
    return Network(module, tuple(inputs), tuple(specs), axes, tuple(samples))


def image_part(
    subject: Subject,
    inputs: Sequence[TensorSpec],
    *,
    suffix: str = "preprocess",
    settings: Sequence[tuple[str, str, str]] = (),
    contents: Mapping[str, bytes] = MappingProxyType({}),
) -> PythonPart:
    """Images to pixels, without transformers.

    Args:
        contents: files beside those that say how.

    Raises:
        CannotSplit: only transformers' own processor makes these pixels.
    """
    own, files = light_image_processor(subject.pipe.image_processor)
    return python_part(
        subject,
        suffix,
        "process_image.py",
        [spec for spec in subject.plan.inputs if spec.name == "image"],
        inputs,
        summary="images to pixels",
        files=((*own, *unpadded_setting(inputs), *settings), {**files, **contents}),
        stage="preprocess",
    )


def pixel_inputs(processor: Any, call: Any, samples_of: Any = image_samples) -> tuple[Any, Any]:
    """The tensors a network of images takes, and samples of them."""
    names = model_inputs(processor.model_input_names, call)
    samples = samples_of(processor, names)
    return tuple(spec_of(name, [each[name] for each in samples], _DOCS.get(name, name)) for name in names), samples


def image_classification(subject: Subject) -> Split:
    inputs, samples = pixel_inputs(subject.pipe.image_processor, subject.model)
    core, settings = classifying_core(subject, inputs, samples)
    preprocess = image_part(subject, core.inputs, settings=settings)
    return Split((preprocess, core, classify_part(subject, core.outputs)))


def classifying_core(
    subject: Subject, inputs: Sequence[TensorSpec], samples: Sequence[dict[str, np.ndarray]]
) -> tuple[CorePart, Sequence[tuple[str, str, str]]]:
    """A core that makes `logits`, and `probs` if they are folded into the graph; and what the preprocess must know of
    that: which function the request wants is a tensor then."""
    network = Keyword(subject.model, [spec.name for spec in inputs], constants(subject.model))
    if not subject.fold:
        return core_part(network_of(Fields(network, ["logits"]), inputs, ["logits"], samples)), ()
    for number, sample in enumerate(samples):
        sample[ACTIVATION.name] = np.full((len(sample[inputs[0].name]), 1), (1, 2, 0)[number], np.int32)
    folded = network_of(Classifier(network), (*inputs, ACTIVATION), ["logits", "probs"], samples)
    return core_part(folded), [activation_setting(subject)]


def core_part(network: Network, suffix: str = "core", summary: str = "the network") -> CorePart:
    """A core whose requests share a batch if their sizes are equal."""
    return CorePart(
        suffix=suffix,
        stage="core",
        summary=summary,
        inputs=network.inputs,
        outputs=network.outputs,
        network=network,
    )


class _Features(nn.Module):
    """The first output of a network, and its pooled output as one vector if `pooled`."""

    def __init__(self, network: nn.Module, *, pooled: bool) -> None:
        super().__init__()
        self.network = network
        self.pooled = pooled

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.network(*tensors)
        features: torch.Tensor = output[0].float()
        return (features, output.pooler_output.flatten(1).float()) if self.pooled else (features,)


def image_feature_extraction(subject: Subject) -> Split:
    inputs, samples = pixel_inputs(subject.pipe.image_processor, subject.model)
    network = Keyword(subject.model, [spec.name for spec in inputs], constants(subject.model))
    outputs = [spec.name for spec in subject.plan.outputs]
    module = _Features(network, pooled="pooler_output" in outputs)
    return Split((image_part(subject, inputs), core_part(network_of(module, inputs, outputs, samples))))
