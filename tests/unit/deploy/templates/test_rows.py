"""Rows of unequal size in one request: none is padded, each gets what the network says of it alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.deploy import stand_in
from tests.unit.deploy.stand_in import LocalModel, TritonError
from tests.unit.deploy.templates.part import encoded, file_rows, load_part

Image = pytest.importorskip("PIL.Image")

INPUTS = "pixel_values activation"
PIXELS = {"pixel_values": "TYPE_FP32 3 -1 -1", "activation": "TYPE_INT32 1"}
APART = {"rows_apart": "TYPE_STRING 1"}
NATURAL = {
    "resize": None, "resample": 2, "crop": None, "scale": 1, "offset": 0, "mean": 0, "std": 1, "flip": False,
    "pad": None, "mask": False,
}  # fmt: skip
SIZES = ((6, 4), (3, 5), (6, 4), (2, 2), (3, 5))


class Network:
    """Scores two classes by how bright an image is, which padding would change; sees its batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        pixels = inputs["pixel_values"]
        self.batches.append(pixels.shape)
        if pixels.min() < 0:
            raise ValueError("an image of the dark")
        bright = pixels.mean(axis=(1, 2, 3))
        return {"logits": np.stack([bright, 255 - bright], axis=1).astype(np.float32)}


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setitem(stand_in.NETWORKS, "eye_core", network)
    return network


@pytest.fixture
def before(tmp_path: Path) -> LocalModel:
    settings = {"task": "image-classification", "unpadded": "pixel_values", "network_inputs": INPUTS}
    contents = {"image_settings.json": json.dumps(NATURAL).encode()}
    return load_part(tmp_path, "process_image.py", {"image": "TYPE_STRING 1"}, {**PIXELS, **APART}, settings, contents)


@pytest.fixture
def after(tmp_path: Path) -> LocalModel:
    settings = {
        "task": "image-classification", "function_to_apply": "none",
        "network": "eye_core", "network_inputs": INPUTS, "network_outputs": "logits",
    }  # fmt: skip
    outputs = {"logits": "TYPE_FP32 2", "label": "TYPE_STRING 1"}
    contents = {"labels.json": b'["bright", "dark"]'}
    return load_part(tmp_path, "classify.py", {"logits": "TYPE_FP32 2", **APART}, outputs, settings, contents)


def images(*sizes: tuple[int, int]) -> dict[str, np.ndarray]:
    return {
        "image": file_rows(
            *(encoded(Image.new("RGB", size, (40 * number,) * 3)) for number, size in enumerate(sizes, 1))
        )
    }


def through(before: LocalModel, network: Network, after: LocalModel, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    made = before.ask(inputs)
    answered = network({name: made[name] for name in INPUTS.split()})
    return after.ask({**answered, "rows_apart": made["rows_apart"]})


def test_each_row_is_answered_as_if_it_were_alone(before: LocalModel, network: Network, after: LocalModel) -> None:
    together = through(before, network, after, images(*SIZES))
    assert together["logits"][:, 0].tolist() == pytest.approx([40, 80, 120, 160, 200])
    assert together["label"][:, 0].tolist() == [b"dark", b"dark", b"dark", b"bright", b"bright"]


def test_rows_of_one_size_are_asked_for_as_one_batch(before: LocalModel, network: Network, after: LocalModel) -> None:
    through(before, network, after, images(*SIZES))
    assert network.batches == [(5, 3, 2, 2), (2, 3, 4, 6), (2, 3, 5, 3)]


def test_rows_of_equal_size_are_a_batch_and_nothing_is_set_apart(
    before: LocalModel, network: Network, after: LocalModel
) -> None:
    assert before.ask(images((6, 4), (6, 4)))["rows_apart"].tolist() == [[b""], [b""]]
    through(before, network, after, images((6, 4), (6, 4)))
    assert network.batches == [(2, 3, 4, 6)]


def test_batches_are_no_larger_than_the_network_takes(before: LocalModel, network: Network, after: LocalModel) -> None:
    through(before, network, after, images((1, 1), *[(6, 4)] * 10))
    assert network.batches == [(11, 3, 1, 1), (8, 3, 4, 6), (2, 3, 4, 6)]


def test_rows_of_several_requests_share_a_batch(before: LocalModel, network: Network, after: LocalModel) -> None:
    requests = []
    for inputs in (images((2, 2), (6, 4)), images((3, 3), (6, 4))):
        made = before.ask(inputs)
        answered = network({name: made[name] for name in INPUTS.split()})
        requests.append(after.request({**answered, "rows_apart": made["rows_apart"]}))
    network.batches.clear()
    after.execute(requests)
    assert network.batches == [(2, 3, 4, 6)]


def test_error_of_the_network_is_that_of_the_request_alone(
    before: LocalModel, network: Network, after: LocalModel
) -> None:
    made = before.ask(images((2, 2), (6, 4)))
    light_rows = after.model.infer.__globals__["bring_back"].__globals__
    (row,), replaced = light_rows["unpack"](made["rows_apart"][1, 0])
    dark = light_rows["pack"]([{**row, "pixel_values": -row["pixel_values"]}], replaced)
    answered = network({name: made[name] for name in INPUTS.split()})
    broken = np.array([[b""], [dark]], object)
    failed, whole = after.execute(
        [after.request({**answered, "rows_apart": each}) for each in (broken, made["rows_apart"])]
    )
    assert isinstance(failed, TritonError)
    assert "an image of the dark" in failed.message()
    assert isinstance(whole, dict)


def test_rows_are_joined_behind_a_network_of_any_kind(
    before: LocalModel, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the network made has a size of its own for each row: smaller ones are followed by 0."""

    def brightness(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"columns": inputs["pixel_values"].mean(axis=(1, 2))}

    monkeypatch.setitem(stand_in.NETWORKS, "eye_core", brightness)
    settings = {
        "task": "image-feature-extraction", "network": "eye_core", "network_inputs": INPUTS,
        "network_outputs": "columns",
    }  # fmt: skip
    tensors = {"columns": "TYPE_FP32 -1", "pixel_values": PIXELS["pixel_values"]}
    join = load_part(
        tmp_path, "join_rows.py", {**tensors, **APART, "activation": PIXELS["activation"]}, tensors, settings
    )
    made = before.ask(images((6, 4), (3, 5), (6, 4)))
    joined = join.ask({**made, **brightness(made)})
    assert joined["columns"].tolist() == [[40] * 6, [80] * 3 + [0] * 3, [120] * 6]
    assert joined["pixel_values"].shape == (3, 3, 5, 6)
