"""The last step of mask-generation without torchvision is torchvision's.

`torchvision_nms.json` holds what `torchvision.ops.boxes.batched_nms` kept of boxes, in torchvision 0.29.1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.deploy.reference import best_masks
from conch.deploy.split.light import light_module

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

RECORDED = json.loads(Path(__file__).with_name("torchvision_nms.json").read_text())["cases"]


@pytest.mark.parametrize("case", RECORDED, ids=[case["name"] for case in RECORDED])
def test_boxes_that_torchvision_keeps_are_kept_in_its_order(case: dict[str, Any]) -> None:
    boxes, scores = np.array(case["boxes"], np.float32).reshape(-1, 4), np.array(case["scores"], np.float32)
    assert light_module("light_overlap").suppress(boxes, scores, case["threshold"]) == case["kept"]


@pytest.mark.parametrize("case", RECORDED, ids=[case["name"] for case in RECORDED])
def test_reference_keeps_them_too(case: dict[str, Any]) -> None:
    boxes = torch.tensor(case["boxes"], dtype=torch.int64).reshape(-1, 4)
    scores = torch.tensor(case["scores"], dtype=torch.float32)
    lengths = [{"size": [2, 3], "counts": [2, 4]}] * len(boxes)
    _, kept_scores, _, kept_boxes = best_masks(lengths, scores, boxes, case["threshold"])
    assert kept_boxes.tolist() == [case["boxes"][index] for index in case["kept"]]
    assert kept_scores.tolist() == pytest.approx([case["scores"][index] for index in case["kept"]])


@pytest.mark.parametrize("counts", [[6], [0, 6], [1, 2, 3], [0, 1, 1, 4], [2, 2, 1, 1]])
def test_mask_of_run_lengths_goes_down_the_columns(counts: list[int]) -> None:
    flat = [value for number, count in enumerate(counts) for value in [number % 2 == 1] * count]
    expected = np.array(flat).reshape(3, 2).T
    lengths = {"size": [2, 3], "counts": counts}
    ((mask,), *_) = best_masks([lengths], torch.ones(1), torch.tensor([[0, 0, 1, 1]]), 0.7)
    np.testing.assert_array_equal(light_module("hf_masks").unpack_mask(lengths), expected)
    np.testing.assert_array_equal(mask, expected)


def test_image_processor_keeps_its_own_step_where_torchvision_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Processor:
        def post_process_for_mask_generation(self) -> str:
            return "the library's own"

    masks = light_module("hf_masks")
    monkeypatch.setattr(masks, "is_torchvision_available", lambda: True)
    processor = Processor()
    masks.complete_processor(processor)
    assert processor.post_process_for_mask_generation() == "the library's own"

    monkeypatch.setattr(masks, "is_torchvision_available", lambda: False)
    masks.complete_processor(processor)
    assert processor.post_process_for_mask_generation is masks.best_masks
