"""Every cut of an ensemble is compared, and the stage that differs is named."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from conch.deploy.plan import CheckpointFacts, Choices, Plan, make_plan
from conch.deploy.samples import Sample, text_array
from conch.deploy.split.apart import ROWS_APART
from conch.deploy.split.network import Network
from conch.deploy.split.parts import CorePart, PythonPart, Split
from conch.deploy.tasks import TensorSpec, find_task
from conch.deploy.verify import Cases, Verification
from conch.deploy.verify_parts import (
    PartCases,
    _compare_rows,
    _made_rows,
    make_part_cases,
    rows_of_requests,
    verify_parts,
)
from conch.errors import BackendError
from conch.tensor import DataType

IDS = TensorSpec("input_ids", DataType.INT64, (-1,), "token ids")
MASK = TensorSpec("attention_mask", DataType.INT64, (-1,), "1 for a token")
PIXELS = TensorSpec("pixel_values", DataType.FP32, (2,), "an image")
STATES = TensorSpec("last_hidden_state", DataType.FP32, (-1, 4), "one vector a token")

Answer = Callable[[str, dict[str, np.ndarray]], dict[str, np.ndarray]]


class Doubled(torch.nn.Module):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (input_ids[:, :, None].expand(-1, -1, 4).float() * 2,)


def plan() -> Plan:
    facts = CheckpointFacts(sizes={"hidden_size": (4,)})
    return make_plan("words", find_task("feature-extraction"), "owner/name", facts, Choices())


def split(*settings: tuple[str, str, str]) -> Split:
    axes = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask", "last_hidden_state")}
    samples = tuple(
        {"input_ids": np.arange(1, 2 * size + 1).reshape(2, size), "attention_mask": np.ones((2, size), np.int64)}
        for size in (2, 3)
    )
    samples[1]["attention_mask"][1, 2] = 0
    network = Network(Doubled(), (IDS, MASK), (STATES,), axes, samples, "attention_mask")
    core = CorePart(suffix="core", stage="core", summary="", inputs=(IDS, MASK), outputs=(STATES,), network=network)
    preprocess = PythonPart(
        suffix="preprocess",
        stage="preprocess",
        summary="",
        inputs=plan().inputs,
        outputs=(IDS, MASK),
        template="tokenize_text.py",
        settings=settings,
    )
    return Split((preprocess, core))


class Truth:
    """A library whose network gets 1, 2, ... for every letter of a text, padded with 9."""

    dtype = "float32"
    pipe = None

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def answer(self, sample: Sample) -> dict[str, Any]:
        ids = torch.tensor([[1, 2, 9]])
        self.network(input_ids=ids, attention_mask=torch.tensor([[1, 1, 0]]))
        return {}


def samples() -> tuple[Sample, ...]:
    return (Sample({"text": text_array("ab")}, ("ab",)), Sample({"text": text_array("cd")}, ("cd",)))


def right(model: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if model == "words_preprocess":
        return {"input_ids": np.array([[1, 2]]), "attention_mask": np.array([[1, 1]])}
    return {"last_hidden_state": np.repeat(inputs["input_ids"][:, :, None], 4, axis=2).astype(np.float32) * 2}


def verified(answer: Answer) -> Verification:
    whole = split()
    network = Doubled()
    cases = make_part_cases(whole, network, Truth(network), samples())

    async def infer(model: str, inputs: dict[str, np.ndarray], parameters: dict[str, Any]) -> dict[str, np.ndarray]:
        return answer(model, inputs)

    return asyncio.run(verify_parts(plan(), whole, Cases(samples(), ({}, {}), 1e-4), cases, infer))


def test_parts_that_do_as_the_library_pass_with_a_row_a_tensor() -> None:
    outcome = verified(right)
    assert outcome.passed
    found = [(row.stage, row.output) for row in outcome.rows]
    assert found == [("preprocess", "input_ids"), ("preprocess", "attention_mask"), ("core", "last_hidden_state")]


def test_preprocess_that_makes_other_tokens_is_named() -> None:
    def wrong(model: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**right(model, inputs), "input_ids": np.array([[1, 3]])} if "pre" in model else right(model, inputs)

    outcome = verified(wrong)
    assert (outcome.passed, outcome.failed_stage) == (False, "preprocess")


def test_core_that_differs_is_named() -> None:
    def wrong(model: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answer = right(model, inputs)
        return {name: array + 0.1 for name, array in answer.items()} if model == "words_core" else answer

    outcome = verified(wrong)
    assert (outcome.passed, outcome.failed_stage) == (False, "core")


def test_core_may_do_as_it_likes_at_padding() -> None:
    def other_at_padding(model: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answer = right(model, inputs)
        if model == "words_core":
            answer["last_hidden_state"][inputs["attention_mask"] == 0] = 77
        return answer

    assert verified(other_at_padding).passed


def test_core_that_bakes_in_a_size_is_named() -> None:
    def baked(model: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answer = right(model, inputs)
        return {name: array[:, :2] for name, array in answer.items()} if model == "words_core" else answer

    outcome = verified(baked)
    assert (outcome.passed, outcome.failed_stage) == (False, "core")
    assert "expected shape [2, 3, 4], got [2, 2, 4]" in str(outcome.rows)


def test_error_of_a_part_is_told_with_its_name() -> None:
    def broken(model: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise BackendError("out of order")

    outcome = verified(broken)
    assert outcome.errors == ("preprocess: out of order", "core: out of order")


@pytest.mark.parametrize(
    ("fed", "difference"),
    [
        ([[5, 6, 0, 0]], 0),  # padding that the network is given, without a mask (SigLIP)
        ([[5, 6]], 0),  # a text alone
        ([[5, 6, 0]], float("inf")),
    ],
)
def test_padding_without_a_mask_counts_where_the_network_is_given_it(fed: list[list[int]], difference: float) -> None:
    rows = [np.array(row) for row in fed]
    made = {"input_ids": np.array([5, 6, 0, 0]), "attention_mask": np.array([1, 1, 0, 0])}
    found = _made_rows(made, {"input_ids": rows})
    assert _compare_rows(rows, found["input_ids"])[0] == difference


def test_prompts_of_unequal_length_are_compared_without_their_padding() -> None:
    rows = [np.array([5, 6, 7]), np.array([8])]
    made = {"input_ids": np.array([[5, 6, 7], [8, 0, 0]]), "attention_mask": np.array([[1, 1, 1], [1, 0, 0]])}
    assert _compare_rows(rows, _made_rows(made, {"input_ids": rows})["input_ids"])[0] == 0


def test_pixels_may_differ_a_little() -> None:
    part = PythonPart(
        suffix="preprocess", stage="preprocess", summary="", inputs=(), outputs=(PIXELS,), template="process_image.py"
    )
    cases = PartCases(({"pixel_values": [np.array([1.0, 2.0], np.float32)]},), {})

    async def off_by(amount: float) -> Verification:
        async def infer(model: str, inputs: Any, parameters: Any) -> dict[str, np.ndarray]:
            return {"pixel_values": np.array([[1.0, 2.0 + amount]], np.float32)}

        return await verify_parts(plan(), Split((part,)), Cases(samples()[:1], ({},), 1e-4), cases, infer)

    assert asyncio.run(off_by(5e-4)).passed
    assert not asyncio.run(off_by(5e-3)).passed


def test_parts_of_a_sample_count_that_travel_apart() -> None:
    part = PythonPart(
        suffix="preprocess",
        stage="preprocess",
        summary="",
        inputs=(),
        outputs=(PIXELS, ROWS_APART),
        template="process_image.py",
    )
    fed = [np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0], np.float32)]
    cases = PartCases(({"pixel_values": fed},), {})

    async def made(*further: np.ndarray) -> Verification:
        async def infer(model: str, inputs: Any, parameters: Any) -> dict[str, np.ndarray]:
            buffer = io.BytesIO()
            rows: dict[str, Any] = {f"{number}/pixel_values": row for number, row in enumerate(further)}
            np.savez(buffer, replaced=np.array(False), **rows)
            element = buffer.getvalue() if further else b""
            return {"pixel_values": fed[0][None], "rows_apart": np.array([[element]], object)}

        return await verify_parts(plan(), Split((part,)), Cases(samples()[:1], ({},), 1e-4), cases, infer)

    assert asyncio.run(made(fed[1])).passed
    assert "expected 2 different rows, got 1" in str(asyncio.run(made()).rows)
    assert not asyncio.run(made(fed[1] + 1)).passed


def test_samples_of_unequal_size_are_rows_only_where_nobody_refuses_them() -> None:
    cases = PartCases(({"input_ids": [np.ones(2)]}, {"input_ids": [np.ones(3)]}), {})
    assert rows_of_requests(split(), samples(), cases) == [[0, 1]]
    refusing = split(("unpadded", "input_ids", "a comment"))
    assert rows_of_requests(refusing, samples(), cases) == []


def test_reference_leaves_no_trace_on_the_network(tmp_path: Path) -> None:
    network = Doubled()
    cases = make_part_cases(split(), network, Truth(network), samples())
    assert "forward" not in vars(network)
    np.testing.assert_array_equal(cases.fed[0]["input_ids"][0], [1, 2])  # without padding
    assert [each["last_hidden_state"].shape for each in cases.answered["core"]] == [(2, 2, 4), (2, 3, 4)]
