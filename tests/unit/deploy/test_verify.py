"""Verification passes models that answer as their library does, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.deploy.plan import Choices
from conch.deploy.reference import Reference
from conch.deploy.verify import Cases, Row, Verification, compare, compare_arrays, make_cases, table, verify
from conch.errors import BackendError
from tests.unit.deploy.conftest import Deployed, plan_of

pytest.importorskip("transformers")


def texts(*values: str) -> np.ndarray:
    return np.array([value.encode() for value in values], dtype=object)


def one(expected: Any, answer: np.ndarray, tolerance: float = 1e-4) -> Row:
    (row,) = compare({"output": expected}, {"output": answer}, tolerance)
    return row


def test_numbers_within_the_tolerance_of_the_largest_pass() -> None:
    assert one([1.0, 1000.0], np.array([1.05, 1000.0])).passed
    assert not one([1.0, 10.0], np.array([1.05, 10.0])).passed


def test_other_shape_fails_with_both_shapes() -> None:
    row = one([1.0, 2.0], np.array([1.0]))
    assert not row.passed
    assert row.note == "expected shape [2], got [1]"


def test_other_text_fails_and_is_shown() -> None:
    row = one(["cat", "dog"], texts("cat", "kite"))
    assert (row.passed, row.note) == (False, "expected 'dog', got 'kite'")
    assert one(["cat"], texts("cat")).passed


def test_few_integers_may_differ() -> None:
    mask = np.zeros(10_000, np.uint8)
    almost = mask.copy()
    almost[:9] = 255
    assert one(mask, almost).passed
    assert not one(mask, ~mask).passed


def test_not_a_number_never_passes() -> None:
    assert not one([1.0], np.array([np.nan])).passed


def test_missing_output_fails() -> None:
    (row,) = compare({"logits": [1.0]}, {}, 1e-4)
    assert (row.passed, row.note) == (False, "the model did not return it")


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ('[{"label": "cat", "score": 0.50001}]', True),
        ('[{"label": "cat", "score": 0.51}]', False),
        ('[{"label": "dog", "score": 0.5}]', False),
        ('[{"label": "cat"}]', False),
        ("[]", False),
    ],
)
def test_json_is_compared_value_by_value(answer: str, passed: bool) -> None:
    (row,) = compare({"json": [{"label": "cat", "score": 0.5}]}, {"json": texts(answer)}, 1e-4)
    assert row.passed is passed


def test_nothing_compared_is_no_success() -> None:
    assert not Verification(rows=()).passed


def test_table_says_what_failed() -> None:
    shown = table(Verification((Row("logits", 0.25, 1e-4), Row("label", 0.0, 0.0)), ("it broke",)))
    assert "logits                0.25    0.0001  FAILED" in shown
    assert "label                    0         0  ok" in shown
    assert "FAILED it broke" in shown


@pytest.fixture(scope="module")
def cases_of(checkpoint_of: Callable[[str], Path]) -> Callable[..., Cases]:
    def make(name: str, choices: Choices | None = None) -> Cases:
        checkpoint = checkpoint_of(name)
        plan = plan_of(name, checkpoint, choices)
        return make_cases(plan, Reference(plan, checkpoint))

    return make


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("zero-shot-image-classification", None),
        ("text-classification", None),
        ("sentence-similarity", None),
        ("image-segmentation", None),
        ("object-detection", Choices(image_input="pixels", max_batch_size=0)),
        ("zero-shot-audio-classification", Choices(audio_input="samples")),
    ],
)
def test_deployed_model_passes(
    name: str,
    choices: Choices | None,
    deployed: Deployed,
    cases_of: Callable[..., Cases],
    checkpoint_of: Callable[[str], Path],
) -> None:
    plan = plan_of(name, checkpoint_of(name), choices)
    outcome = asyncio.run(verify(plan, cases_of(name, choices), deployed(name, choices).infer))
    assert outcome.passed, table(outcome)


def test_samples_are_sent_alone_and_then_together(
    deployed: Deployed, cases_of: Callable[..., Cases], checkpoint_of: Callable[[str], Path]
) -> None:
    name = "fill-mask"
    model = deployed(name)
    before = len(model.batches)
    asyncio.run(verify(plan_of(name, checkpoint_of(name)), cases_of(name), model.infer))
    assert model.batches[before:] == [1, 1, 1, 3]


def test_model_that_answers_otherwise_fails(
    deployed: Deployed, cases_of: Callable[..., Cases], checkpoint_of: Callable[[str], Path]
) -> None:
    name = "text-classification"

    async def off_by_a_little(inputs: dict[str, np.ndarray], parameters: dict[str, Any]) -> dict[str, np.ndarray]:
        outputs = await deployed(name).infer(inputs, parameters)
        return {**outputs, "logits": outputs["logits"] + 0.001}

    outcome = asyncio.run(verify(plan_of(name, checkpoint_of(name)), cases_of(name), off_by_a_little))
    assert [row.output for row in outcome.rows if not row.passed] == ["logits"]


def test_error_of_the_model_fails_the_verification_with_its_text(
    cases_of: Callable[..., Cases], checkpoint_of: Callable[[str], Path]
) -> None:
    name = "text-classification"

    async def broken(inputs: dict[str, np.ndarray], parameters: dict[str, Any]) -> dict[str, np.ndarray]:
        raise BackendError("out of order")

    outcome = asyncio.run(verify(plan_of(name, checkpoint_of(name)), cases_of(name), broken))
    assert (outcome.passed, outcome.errors) == (False, ("out of order",))


def test_infinities_must_be_where_the_library_has_them() -> None:
    want = np.array([1.0, -np.inf, np.nan, 2.0], np.float32)
    assert compare_arrays(want, want + np.float32(1e-5), 1e-4)[:2] == (
        pytest.approx(1e-5, rel=0.1),
        pytest.approx(2e-4),
    )
    for got in ([1, -1e30, np.nan, 2], [1, -np.inf, 0, 2], [1, np.inf, np.nan, 2]):
        difference, _, note = compare_arrays(want, np.array(got, np.float32), 1e-4)
        assert (difference, note) == (float("inf"), "infinities or NaN are elsewhere")
    assert np.isnan(compare_arrays(np.array([1.0, 2.0]), np.array([1.0, np.nan]), 1e-4)[0])
    assert compare_arrays(np.array([-np.inf]), np.array([-np.inf]), 1e-4)[0] == 0
