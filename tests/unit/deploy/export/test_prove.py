"""What the proof accepts and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from conch.deploy.export.prove import (
    Difference,
    accepted_differences,
    expected_outputs,
    one_line,
    prove,
    unproved_symbols,
    worst,
)
from conch.deploy.split.network import Network
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType
from tests.unit.deploy.export.networks import Echo, Pooler, text_network, tokens

NETWORK = text_network()
EXPECTED = expected_outputs(NETWORK)


def rows_of(change: Any, dtype: str = "float32", network: Any = NETWORK) -> list[Difference]:
    """The proof of an engine that answers as expected but for a change made to each answer in place."""
    answers = [{name: array.copy() for name, array in each.items()} for each in EXPECTED]
    for sample, answer in zip(NETWORK.samples, answers, strict=True):
        change(sample, answer)
    return prove(network, EXPECTED, Echo(answers), "some engine", dtype)


def test_equal_outputs_pass_on_every_sample() -> None:
    rows = rows_of(lambda sample, answer: None)
    assert [(row.output, row.sizes) for row in rows] == [
        (output, sizes)
        for sizes in ("batch=2 sequence=6", "batch=1 sequence=4", "batch=3 sequence=11")
        for output in ("pooled", "scores")
    ]
    assert all(row.passed and row.difference == 0 and row.cosine == pytest.approx(1) for row in rows)


def test_a_difference_is_relative_to_the_largest_value() -> None:
    def scale(sample: Any, answer: dict[str, np.ndarray]) -> None:
        answer["pooled"] *= 1 + 2e-3

    row = worst(rows_of(scale))
    assert row.output == "pooled"
    assert row.difference == pytest.approx(2e-3, rel=1e-2)
    assert not row.passed
    assert worst(rows_of(scale, "float16")).passed


def test_padding_is_not_compared() -> None:
    def spoil_padding(sample: Mapping[str, np.ndarray], answer: dict[str, np.ndarray]) -> None:
        answer["scores"][sample["attention_mask"] == 0] = 99.0

    assert all(row.passed for row in rows_of(spoil_padding))
    without = text_network(mask="")
    assert not worst(rows_of(spoil_padding, network=without)).passed


def test_a_real_token_that_differs_is_found() -> None:
    def spoil_one(sample: Any, answer: dict[str, np.ndarray]) -> None:
        answer["scores"][0, 0, 0] += 0.1

    assert not worst(rows_of(spoil_one)).passed


def test_another_shape_names_the_output_and_the_sizes() -> None:
    def cut(sample: Any, answer: dict[str, np.ndarray]) -> None:
        answer["scores"] = answer["scores"][:, :2]

    assert str(worst(rows_of(cut))) == (
        "output 'scores' has the shape [2, 2, 3] instead of [2, 6, 3] at batch=2 sequence=6"
    )


def test_a_missing_output_and_another_datatype_do_not_pass() -> None:
    def drop(sample: Any, answer: dict[str, np.ndarray]) -> None:
        del answer["pooled"]

    def widen(sample: Any, answer: dict[str, np.ndarray]) -> None:
        answer["pooled"] = answer["pooled"].astype(np.float64)

    assert "'pooled' is missing" in str(worst(rows_of(drop)))
    assert "'pooled' should be FP32, got float64" in str(worst(rows_of(widen)))


def test_outputs_of_1e_minus_30_are_still_compared() -> None:
    network = text_network(samples=NETWORK.samples[:1])
    want = {name: array * np.float32(1e-30) for name, array in EXPECTED[0].items()}
    wrong = {name: array * np.float32(1.01) for name, array in want.items()}
    assert all(row.passed for row in prove(network, [want], Echo([want]), "engine", "float32"))
    assert not worst(prove(network, [want], Echo([wrong]), "engine", "float32")).passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_infinities_and_nan_must_be_where_the_original_has_them(value: float) -> None:
    def spoil(sample: Any, answer: dict[str, np.ndarray]) -> None:
        answer["pooled"][0, 0] = value

    assert not worst(rows_of(spoil)).passed
    special = [{**each, "pooled": np.full_like(each["pooled"], value)} for each in EXPECTED]
    assert worst(prove(NETWORK, special, Echo(special), "engine", "float32")).passed


def test_integers_count_by_the_share_that_differs() -> None:
    network = text_network(samples=(tokens(2, 6),), outputs=(TensorSpec("classes", DataType.INT64, (8,), ""),))
    want = {"classes": np.zeros((2, 8), np.int64)}
    wrong = {"classes": want["classes"].copy()}
    wrong["classes"][0, 0] = 1
    row = prove(network, [want], Echo([wrong]), "engine", "float32")[0]
    assert row.difference == 1 / 16
    assert not row.passed


def test_int8_is_judged_by_its_cosine_only() -> None:
    def blur(sample: Any, answer: dict[str, np.ndarray]) -> None:
        answer["pooled"] *= 1.5

    def turn(sample: Any, answer: dict[str, np.ndarray]) -> None:
        answer["pooled"] *= -1

    row = worst(rows_of(blur, "int8"))
    assert row.passed
    assert row.difference == pytest.approx(0.5)
    assert "cosine -1.000" in str(worst(rows_of(turn, "int8")))
    assert not worst(rows_of(turn, "int8")).passed


def test_an_engine_that_raises_does_not_pass_and_its_text_is_kept() -> None:
    class Raises(Echo):
        def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            raise RuntimeError("no kernel\nfor this")

    rows = prove(NETWORK, EXPECTED, Raises([]), "engine", "int8")
    assert not any(row.passed for row in rows)
    assert "RuntimeError: no kernel for this" in str(rows[0])


def test_the_module_is_asked_in_evaluation_mode() -> None:
    module = Pooler().train()
    again = expected_outputs(text_network(module))
    np.testing.assert_array_equal(again[0]["scores"], EXPECTED[0]["scores"])


def test_a_module_with_other_outputs_than_promised_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"promises the outputs \['pooled'\], but its module returns 2"):
        expected_outputs(text_network(outputs=NETWORK.outputs[:1]))


def test_symbols_of_one_size_are_named() -> None:
    assert unproved_symbols(NETWORK) == []
    assert unproved_symbols(text_network(samples=(tokens(2, 6), tokens(2, 7)))) == ["batch"]


def test_a_long_exception_becomes_one_short_line_about_its_first_cause() -> None:
    error = RuntimeError("export failed")
    error.__cause__ = ValueError("line one\n\n   line two " + "x" * 300)
    text = one_line(error)
    assert text.startswith("ValueError: line one line two x")
    assert len(text) < 220


class Cancelling(torch.nn.Module):
    """Rounds its input by adding a large number and taking it off again."""

    def __init__(self, *, narrow: bool = False) -> None:
        super().__init__()
        self.large = torch.nn.Parameter(torch.tensor(3000.0))
        self.narrow = narrow

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor]:
        if self.narrow:
            values = values @ torch.eye(values.shape[-1])
        return (((values + self.large) - self.large).float(),)


def cancelling(*, narrow: bool = False) -> Network:
    random = np.random.default_rng(0)
    samples = tuple({"values": random.uniform(0, 1, (rows, 64)).astype(np.float32)} for rows in (2, 1))
    specs = tuple(TensorSpec(name, DataType.FP32, (64,), "numbers") for name in ("values", "rounded"))
    axes = {spec.name: {0: "batch"} for spec in specs}
    return Network(Cancelling(narrow=narrow), specs[:1], specs[1:], axes, samples)


class Exact:
    """An engine that rounds nothing, but answers further from the truth by so much."""

    inputs, device = ("values",), "cpu"

    def __init__(self, further: float) -> None:
        self.further = np.float32(further)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"rounded": feeds["values"] + self.further}


def proof_of(network: Network, further: float = 0.0) -> Difference:
    return worst(prove(network, expected_outputs(network), Exact(further), "some engine", "float32"))


def test_an_engine_may_be_as_far_from_the_network_as_this_from_the_truth() -> None:
    network = cancelling()
    found = proof_of(network)
    assert found.passed
    assert 1e-4 < found.difference < found.accepted < 3e-4
    assert accepted_differences([found]) == {"rounded": found.accepted}
    assert network.module.large.dtype == torch.float32
    assert not proof_of(network, 5e-4).passed
    assert not proof_of(network, 0.1).passed


def test_a_network_that_knows_fp32_alone_is_held_to_the_tolerance() -> None:
    network = cancelling(narrow=True)
    found = proof_of(network)
    assert not found.passed
    assert found.accepted == 1e-4
    assert network.module.large.dtype == torch.float32
