"""Sends the recorded requests to conch and compares its answers with those of Triton."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .compare import family
from .differences import ON_PURPOSE
from .messages import GOLDEN_DIRECTORY, Answer, Exchange, HttpAnswer, load_golden
from .scenarios import GROUPS
from .server import spared
from .verdict import found, unexplained


def exchanges() -> Iterator[Any]:
    """Every recorded exchange as a test parameter, in the order of the groups so that servers are started once."""
    for group in GROUPS:
        golden = load_golden(GOLDEN_DIRECTORY / f"{group.name}.json")
        for index, exchange in enumerate(golden.exchanges):
            yield pytest.param(group.name, index, exchange, id=f"{group.name}-{exchange.scenario.name}")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("group", "index", "exchange"), list(exchanges()))
def test_conch_answers_as_triton_does(
    group: str, index: int, exchange: Exchange, replay: Callable[[str], list[Answer]]
) -> None:
    if spared(exchange):
        pytest.skip("ends or stops a Triton")
    answer = replay(group)[index]
    left = unexplained(group, exchange, answer)
    assert not left, "\n".join(["conch answers otherwise than Triton:", *left])
    purpose = ON_PURPOSE.get((group, exchange.scenario.name))
    if purpose is not None:
        assert found(exchange, answer), "conch answers as Triton does now: take the scenario out of differences.py"
        pytest.xfail(purpose.reason)


#: Families of Triton's that the page shows, and 2.51 does not have yet.
NEWER_FAMILIES = {"nv_model_load_duration_secs"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_metrics_page_has_tritons_families_and_no_others_of_that_name(
    replay: Callable[[str], list[Answer]],
) -> None:
    golden = load_golden(GOLDEN_DIRECTORY / "metrics.json")
    pages = [
        ({family(line) for line in exchange.answer.lines}, {family(line) for line in answer.lines})
        for exchange, answer in zip(golden.exchanges, replay("metrics"), strict=True)
        if isinstance(exchange.answer, HttpAnswer) and isinstance(answer, HttpAnswer) and exchange.answer.lines
    ]
    assert pages
    for expected, shown in pages:
        assert shown - NEWER_FAMILIES == expected
