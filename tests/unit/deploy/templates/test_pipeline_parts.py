"""The generic parts give, around the network, what the whole pipeline gives."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints import TASKS, samples
from tests.unit.deploy.conftest import Deployed
from tests.unit.deploy.templates.part import encoded, file_rows, load_part, settings_of, tensors_of, text_rows

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

PIXELS = {"pixel_values": "TYPE_FP32 3 -1 -1"}
MASKED_PIXELS = {**PIXELS, "pixel_mask": "TYPE_INT64 -1 -1"}
TOKENS = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), "TYPE_INT64 -1")
TABLE_TOKENS = {**TOKENS, "token_type_ids": "TYPE_INT64 -1 7"}


def image_inputs(name: str) -> list[dict[str, np.ndarray]]:
    images = samples.image(64, 48), samples.image(50, 90, seed=3)
    return [{"image": file_rows(encoded(image))} for image in images]


def pair_inputs(name: str) -> list[dict[str, np.ndarray]]:
    pair = [encoded(samples.image(64, 48, seed=seed)) for seed in (0, 1)]
    return [{"image": file_rows(*pair).reshape(1, 2)}]


def text_inputs(name: str) -> list[dict[str, np.ndarray]]:
    return [{"text": text_rows([sample.args[0]])} for sample in TASKS[name].samples()]


def sound_inputs(name: str) -> list[dict[str, np.ndarray]]:
    soundfile = pytest.importorskip("soundfile")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.waveform(0.7), samples.RATE, format="FLAC")
    return [{"audio": file_rows(buffer.getvalue())}]


def table_inputs(name: str) -> list[dict[str, np.ndarray]]:
    pytest.importorskip("pandas")
    questions = [sample.args[0] for sample in TASKS[name].samples()]
    return [
        {"query": text_rows([each["query"]]), "table": text_rows([json.dumps(each["table"])])} for each in questions
    ]


class Case:
    """A checkpoint, the tensors its network takes, those the postprocess needs again, and what is asked."""

    def __init__(
        self,
        name: str,
        tensors: dict[str, str],
        inputs: Callable[[str], list[dict[str, np.ndarray]]],
        *,
        again: tuple[str, ...] = (),
        **parameters: Any,
    ) -> None:
        self.name, self.tensors, self.again, self.parameters = name, tensors, again, parameters
        self.inputs = inputs


SEED = 3

CASES = (
    Case("image-classification", PIXELS, image_inputs, top_k=3),
    Case("image-feature-extraction", PIXELS, image_inputs),
    Case("object-detection", PIXELS, image_inputs, threshold="0.05"),
    Case("object-detection.detr", MASKED_PIXELS, image_inputs, threshold="0.05"),
    Case("image-segmentation", PIXELS, image_inputs),
    Case("image-segmentation.detr", MASKED_PIXELS, image_inputs, threshold="0.0"),
    Case("depth-estimation", PIXELS, image_inputs),
    Case("keypoint-matching", {"pixel_values": "TYPE_FP32 2 3 -1 -1"}, pair_inputs),
    Case("text-classification", TOKENS, text_inputs, top_k=2),
    Case("feature-extraction", TOKENS, text_inputs),
    Case("fill-mask", TOKENS, text_inputs, again=("input_ids",), top_k=4),
    Case("audio-classification", {"input_values": "TYPE_FP32 -1"}, sound_inputs),
    Case("table-question-answering", TABLE_TOKENS, table_inputs, again=tuple(TABLE_TOKENS)),
    Case("text-to-audio", dict.fromkeys(("input_ids", "attention_mask"), "TYPE_INT64 -1"), text_inputs, seed=SEED),
)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_parts_around_the_network_equal_the_whole_pipeline(
    case: Case, deployed: Deployed, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    whole, checkpoint = deployed(case.name), checkpoint_of(case.name)
    shared = (settings_of(whole), checkpoint)
    before = part(
        tmp_path, "pipeline_preprocess.py", tensors_of(whole.config.input), {**case.tensors, **CONTEXT}, *shared
    )
    after = None
    for inputs in case.inputs(case.name):
        made = before.ask(inputs, case.parameters)
        fields = run_network(whole.model.pipe.model, {name: made[name] for name in case.tensors})
        if after is None:
            specs = {name: spec_of(value) for name, value in fields.items()}
            wanted = {**specs, **CONTEXT, **{name: case.tensors[name] for name in case.again}}
            settings = {**settings_of(whole), "fields": " ".join(fields)}
            after = part(
                tmp_path, "pipeline_postprocess.py", wanted, tensors_of(whole.config.output), settings,
                checkpoint,
            )  # fmt: skip
        taken = {**fields, "context": made["context"], **{name: made[name] for name in case.again}}
        assert_equal(after.ask(taken, case.parameters), whole.ask(inputs, case.parameters))


CONTEXT = {"context": "TYPE_STRING 1"}


def part(
    directory: Path,
    template: str,
    inputs: dict[str, str],
    outputs: dict[str, str],
    settings: dict[str, str],
    checkpoint: Path,
) -> Any:
    return load_part(directory, template, inputs, outputs, settings, checkpoint=checkpoint)


def run_network(network: Any, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors among the network's outputs, as an exported core would give them."""
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)  # some draw random numbers
        output = network(**{name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
    return {name: value.numpy() for name, value in output.items() if isinstance(value, torch.Tensor)}


def spec_of(value: np.ndarray) -> str:
    data_type = {"float32": "TYPE_FP32", "int64": "TYPE_INT64", "int32": "TYPE_INT32"}[value.dtype.name]
    return " ".join([data_type, *["-1"] * (value.ndim - 1)])


def assert_equal(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if name == "json":
            continue
        assert got[name].shape == value.shape, name
        if value.dtype == object:
            assert got[name].tolist() == value.tolist(), name
        else:
            np.testing.assert_allclose(got[name], value, atol=1e-4, err_msg=name)
    if "json" in expected:
        assert_json(json.loads(got["json"][0, 0]), json.loads(expected["json"][0, 0]))


def assert_json(got: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            assert_json(got[key], value)
    elif isinstance(expected, list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_json(one, other)
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, abs=1e-4)
    else:
        assert got == expected


def test_preprocess_part_holds_no_weights(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    settings = {"task": "image-classification"}
    inputs, outputs = {"image": "TYPE_STRING 1"}, {**PIXELS, **CONTEXT}
    checkpoint = checkpoint_of("image-classification")
    model = part(tmp_path, "pipeline_preprocess.py", inputs, outputs, settings, checkpoint)
    assert {parameter.device.type for parameter in model.model.pipe.model.parameters()} == {"meta"}


def test_broken_image_fails_alone(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    settings = {"task": "image-classification"}
    inputs, outputs = {"image": "TYPE_STRING 1"}, {**PIXELS, **CONTEXT}
    checkpoint = checkpoint_of("image-classification")
    model = part(tmp_path, "pipeline_preprocess.py", inputs, outputs, settings, checkpoint)
    asked = [{"image": file_rows(b"no image")}, {"image": file_rows(encoded(samples.image(40, 30)))}]
    broken, whole = model.execute([model.request(each) for each in asked])
    assert "cannot decode the image" in str(broken)
    assert isinstance(whole, dict)
