"""How many requests may be at one step of an ensemble."""

from __future__ import annotations

from conch.core.step_gate import StepGate

CHAIN = {0: (1,), 1: ()}


def test_up_to_the_limit_may_enter_and_the_rest_is_admitted_in_order() -> None:
    gate: StepGate[str] = StepGate(2, CHAIN)
    assert [gate.enter(run, 0) for run in "abcd"] == [True, True, False, False]
    assert list(gate.admit()) == []
    gate.leave(0)
    assert list(gate.admit()) == [("c", 0)]
    gate.leave(0)
    gate.leave(0)
    assert list(gate.admit()) == [("d", 0)]


def test_nobody_overtakes_those_who_are_held() -> None:
    gate: StepGate[str] = StepGate(1, CHAIN)
    gate.enter("a", 0)
    gate.enter("b", 0)
    gate.leave(0)
    assert not gate.enter("c", 0)
    assert list(gate.admit()) == [("b", 0)]


def test_a_step_starts_nothing_while_requests_are_held_before_the_step_it_feeds() -> None:
    gate: StepGate[str] = StepGate(1, CHAIN)
    gate.enter("a", 1)
    assert not gate.enter("b", 1)
    assert not gate.enter("c", 0)
    assert list(gate.admit()) == []
    gate.leave(1)
    assert list(gate.admit()) == [("b", 1), ("c", 0)]
