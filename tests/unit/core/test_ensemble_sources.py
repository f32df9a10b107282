"""Which decoupled step the tensors of an ensemble come from."""

from __future__ import annotations

from conch.core.ensemble import EnsembleGraph
from conch.core.ensemble_branches import branch_plans
from conch.core.ensemble_sources import source_problems, sources
from conch.inference import RequestedOutput
from tests.unit.core.ensembles import inputs, make_ensemble, outputs, step

MANY = step("many", {"X": "X"}, {"Y": "part"})


def test_a_tensor_comes_from_the_last_decoupled_step_on_its_way() -> None:
    steps = (
        step("last", {"X": "c"}, {"Y": "Y"}),
        step("plain", {"X": "X"}, {"Y": "a"}),
        step("many", {"X": "a"}, {"Y": "b"}),
        step("more", {"X": "b"}, {"Y": "c"}),
        step("beside", {"X": "b"}, {"Y": "d"}),
    )
    found = sources(steps, {2, 3})
    assert {name: set(found[name]) for name in found} == {"a": {None}, "b": {2}, "c": {3}, "Y": {3}, "d": {2}}


def test_a_circle_has_no_source() -> None:
    steps = (step("one", {"X": "b"}, {"Y": "a"}), step("two", {"X": "a"}, {"Y": "b"}))
    assert sources(steps, {5}) == {}


def test_a_step_that_would_bring_two_sources_together_is_a_problem() -> None:
    config = make_ensemble(MANY, step("join", {"A": "part", "B": "X"}, {"SUM": "Y"}))
    assert list(source_problems(config, {0})) == [
        "in ensemble pipe, step of model 'join' receives inputs originated from different decoupled models: "
        "'part' from 'many', 'X' from none"
    ]
    assert list(source_problems(config, set())) == []


def test_outputs_of_two_sources_are_a_problem() -> None:
    config = make_ensemble(
        step("many", {"X": "X"}, {"Y": "Y"}),
        step("more", {"X": "V"}, {"Y": "Z"}),
        takes=inputs("X", "V"),
        gives=outputs("Y", "Z"),
    )
    assert list(source_problems(config, {0, 1})) == [
        "in ensemble pipe, the outputs originate from different decoupled models: 'Y' from 'many', 'Z' from 'more'"
    ]


def test_a_branch_has_the_steps_up_to_the_next_decoupled_one() -> None:
    config = make_ensemble(
        step("plain", {"X": "X"}, {"Y": "a"}),
        step("many", {"X": "a"}, {"Y": "b"}),
        step("left", {"X": "b"}, {"Y": "l"}),
        step("right", {"X": "b"}, {"Y": "r"}),
        step("join", {"A": "l", "B": "r"}, {"SUM": "Y"}),
        gives=outputs("Y", "l"),
    )
    assert config.ensemble_scheduling is not None
    steps = config.ensemble_scheduling.step
    graph = EnsembleGraph(config)
    plans = branch_plans(steps, {1}, graph.plan(()))
    assert (plans[None].first, plans[None].feeds[0], plans[None].answers) == ((0,), (1,), False)
    assert (plans[1].first, plans[1].waits_for[4], plans[1].answers, plans[1].makers) == ((2, 3), 2, True, 2)
    fewer = branch_plans(steps, {1}, graph.plan((RequestedOutput("l"),)))
    assert (fewer[1].first, fewer[1].makers) == ((2,), 1)
