"""What an ensemble's graph says: which steps run, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from conch.config.schema import EnsembleStep, ModelConfig, ModelInput, ModelOutput
from conch.core.ensemble import (
    EnsembleGraph,
    Missing,
    find_cycle,
    graph_problems,
    listed,
    misfit,
    models_of,
    step_problems,
)
from conch.inference import RequestedOutput
from conch.tensor import DataType
from tests.unit.core.ensembles import inputs, make_ensemble, model_config, outputs, step

DOUBLE = step("double", {"X": "X"}, {"Y": "Y"})


def two_branches() -> ModelConfig:
    """X -> a -> Y, and X -> b -> c -> Z."""
    return make_ensemble(
        step("last", {"X": "c"}, {"Y": "Z"}),
        step("a", {"X": "X"}, {"Y": "Y"}),
        step("b", {"X": "X"}, {"Y": "c"}),
        gives=outputs("Y", "Z"),
    )


def requested(*names: str) -> tuple[RequestedOutput, ...]:
    return tuple(map(RequestedOutput, names))


def test_steps_wait_for_those_that_make_their_tensors_in_whatever_order_they_are_written() -> None:
    plan = EnsembleGraph(two_branches()).plan(())
    assert plan.steps == 3
    assert plan.first == (1, 2)
    assert plan.waits_for == {0: 1, 1: 0, 2: 0}
    assert plan.feeds == {0: (), 1: (), 2: (0,)}
    assert plan.outputs == ("Y", "Z")


def test_an_output_comes_from_the_step_that_makes_it_under_the_name_of_its_model() -> None:
    graph = EnsembleGraph(two_branches())
    assert graph.source("Z") == (graph.steps[0], "Y")
    assert graph.source("c") == (graph.steps[2], "Y")
    assert graph.source("X") is None


def test_steps_that_no_requested_output_needs_do_not_run() -> None:
    graph = EnsembleGraph(two_branches())
    assert (graph.plan(requested("Y")).first, graph.plan(requested("Y")).steps) == ((1,), 1)
    assert (graph.plan(requested("Z")).first, graph.plan(requested("Z")).steps) == ((2,), 2)


def test_outputs_come_in_the_order_of_the_configuration_and_plans_are_made_once() -> None:
    graph = EnsembleGraph(two_branches())
    plan = graph.plan(requested("Z", "Y"))
    assert plan.outputs == ("Y", "Z")
    assert graph.plan(requested("Y", "Z")) is plan


def test_a_step_that_takes_two_tensors_of_one_step_waits_for_it_once() -> None:
    config = make_ensemble(
        step("split", {"X": "X"}, {"L": "l", "R": "r"}),
        step("add", {"A": "l", "B": "r"}, {"Y": "Y"}),
    )
    plan = EnsembleGraph(config).plan(())
    assert plan.waits_for == {0: 0, 1: 1}
    assert plan.feeds == {0: (1,), 1: ()}


def test_models_of_an_ensemble_are_named_once_and_other_models_use_none() -> None:
    assert models_of(two_branches()) == {"a", "b", "last"}
    assert models_of(model_config("double")) == frozenset()


GRAPHS: dict[str, tuple[ModelConfig, list[str]]] = {
    "good": (make_ensemble(DOUBLE), []),
    "no steps": (make_ensemble(), ["must specify 'step' for ensemble 'pipe'"]),
    "an empty step": (
        make_ensemble(step("", {}, {})),
        [
            "must specify 'model_name' in step 0 of ensemble 'pipe'",
            "must specify 'input_map' in step 0 of ensemble 'pipe'",
            "must specify 'output_map' in step 0 of ensemble 'pipe'",
            "ensemble input 'X' for ensemble 'pipe' is not used",
            "ensemble output 'Y' for ensemble 'pipe' is not made by any step",
        ],
    ),
    "a tensor made twice": (
        make_ensemble(DOUBLE, DOUBLE),
        ["ensemble tensor 'Y' can appear in an output map only once for ensemble 'pipe' step 1"],
    ),
    "an input made again": (
        make_ensemble(DOUBLE, step("double", {"X": "Y"}, {"Y": "X"})),
        [
            "ensemble tensor 'X' can appear in an output map only once for ensemble 'pipe' step 1: it is an input of "
            "the ensemble"
        ],
    ),
    "an unused input": (
        make_ensemble(DOUBLE, takes=inputs("X", "Z")),
        ["ensemble input 'Z' for ensemble 'pipe' is not used"],
    ),
    "an unused tensor": (
        make_ensemble(DOUBLE, step("double", {"X": "X"}, {"Y": "dead"})),
        ["ensemble tensor 'dead' is unused in ensemble 'pipe'"],
    ),
    "an output that is an input": (
        make_ensemble(DOUBLE, takes=inputs("X", "Z"), gives=outputs("Y", "Z")),
        [
            "ensemble input 'Z' for ensemble 'pipe' is not used",
            "ensemble output 'Z' for ensemble 'pipe' is not made by any step",
        ],
    ),
    "a tensor from nowhere": (
        make_ensemble(step("add", {"A": "X", "B": "ghost"}, {"SUM": "Y"})),
        ["ensemble tensor 'ghost' of ensemble 'pipe' is not made by any step, but needed by 'add'"],
    ),
    "a cycle": (
        make_ensemble(
            step("add", {"A": "X", "B": "c"}, {"SUM": "b"}),
            step("double", {"X": "b"}, {"Y": "c"}),
            step("double", {"X": "b"}, {"Y": "Y"}),
        ),
        ["steps of ensemble 'pipe' wait for each other's tensors: 'b' -> 'c' -> 'b'"],
    ),
    "a cycle apart from the rest": (
        make_ensemble(DOUBLE, step("double", {"X": "p"}, {"Y": "q"}), step("double", {"X": "q"}, {"Y": "p"})),
        ["steps of ensemble 'pipe' wait for each other's tensors: 'p' -> 'q' -> 'p'"],
    ),
}


@pytest.mark.parametrize(("config", "problems"), GRAPHS.values(), ids=GRAPHS)
def test_a_graph_is_told_everything_that_is_wrong_with_it(config: ModelConfig, problems: list[str]) -> None:
    assert graph_problems(config) == problems


def test_a_long_chain_in_any_order_has_no_cycle() -> None:
    needs = {f"t{number}": {f"t{number + 1}"} for number in range(3000)}
    assert find_cycle(needs) == ""
    assert find_cycle({**needs, "t3000": {"t2999"}}) == "'t2999' -> 't3000' -> 't2999'"


def finder(*configs: ModelConfig, **missing: str) -> Callable[[str, str], ModelConfig | Missing]:
    known = {config.name: config for config in configs}

    def find(name: str, version: str) -> ModelConfig | Missing:
        return known.get(name) or Missing(missing.get(name, ""))

    return find


def int32(config: ModelConfig) -> ModelConfig:
    changed = tuple(ModelInput(spec.name, DataType.INT32, spec.dims) for spec in config.input)
    return msgspec.structs.replace(config, input=changed)


DOUBLE_MODEL = model_config("double")
ADD_MODEL = model_config("add", "A B", "SUM")
FOUR = msgspec.structs.replace(
    model_config("four", max_batch_size=4), input=inputs("X", dims=(4,)), output=outputs("Y", dims=(4,))
)
MATRIX = msgspec.structs.replace(
    model_config("matrix", max_batch_size=0), input=inputs("X", dims=(-1, -1)), output=outputs("Y", dims=(-1, -1))
)
OPTIONAL = msgspec.structs.replace(ADD_MODEL, name="optional", input=(*inputs("A"), *inputs("B", optional=True)))

FITS: dict[str, tuple[ModelConfig, list[ModelConfig], list[str]]] = {
    "good": (make_ensemble(DOUBLE), [DOUBLE_MODEL], []),
    "an optional input that is not mapped": (
        make_ensemble(step("optional", {"A": "X"}, {"SUM": "Y"})), [OPTIONAL], [],
    ),
    "a variable size where another has a fixed one": (
        make_ensemble(step("four", {"X": "X"}, {"Y": "Y"}), max_batch_size=4), [FOUR], [],
    ),
    "a model without batching whose first dimension is the batch": (
        make_ensemble(step("matrix", {"X": "X"}, {"Y": "Y"})), [MATRIX], [],
    ),
    "unknown models": (
        make_ensemble(step("nope", {"X": "X"}, {"Y": "a"}), step("nada", {"X": "a"}, {"Y": "Y"})),
        [],
        ["ensemble pipe contains models that are not available or ambiguous: nope, nada"],
    ),
    "an unknown input": (
        make_ensemble(step("double", {"X": "X", "Q": "X"}, {"Y": "Y"})),
        [DOUBLE_MODEL],
        ["in ensemble pipe, ensemble tensor X is mapping to non-existing input Q in model double"],
    ),
    "an input that is not mapped": (
        make_ensemble(step("add", {"A": "X"}, {"SUM": "Y"})),
        [ADD_MODEL],
        ["in ensemble pipe, input B in model add is not mapped to any ensemble tensors"],
    ),
    "an unknown output": (
        make_ensemble(step("double", {"X": "X"}, {"Q": "Y"})),
        [DOUBLE_MODEL],
        ["in ensemble pipe, ensemble tensor Y is mapped from non-existing output Q in model double"],
    ),
    "another datatype": (
        make_ensemble(DOUBLE),
        [int32(DOUBLE_MODEL)],
        [
            "in ensemble pipe, ensemble tensor X: inconsistent data type: TYPE_FP32 is inferred from model pipe while "
            "TYPE_INT32 is inferred from model double"
        ],
    ),
    "another shape": (
        make_ensemble(
            step("four", {"X": "X"}, {"Y": "Y"}), takes=inputs("X", dims=(5,)), gives=outputs("Y"), max_batch_size=4
        ),
        [FOUR],
        [
            "in ensemble pipe, ensemble tensor X: inconsistent shape: [-1,5] is inferred from model pipe while [-1,4] "
            "is inferred from model four"
        ],
    ),
    "a smaller batch": (
        make_ensemble(step("four", {"X": "X"}, {"Y": "Y"})),
        [FOUR],
        [
            "ensemble pipe allows maximum batch size 8, but it contains model four which only allows maximum batch "
            "size to be 4"
        ],
    ),
    "everything at once": (
        make_ensemble(
            step("nope", {"X": "X"}, {"Y": "a"}), step("add", {"A": "a", "C": "X"}, {"SUM": "Y"})
        ),
        [int32(ADD_MODEL)],
        [
            "ensemble pipe contains models that are not available or ambiguous: nope",
            "in ensemble pipe, ensemble tensor X is mapping to non-existing input C in model add",
            "in ensemble pipe, input B in model add is not mapped to any ensemble tensors",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("config", "models", "problems"), FITS.values(), ids=FITS)
def test_an_ensemble_is_told_what_does_not_fit_its_models(
    config: ModelConfig, models: list[ModelConfig], problems: list[str]
) -> None:
    assert step_problems(config, finder(*models)) == problems


def test_a_step_whose_model_did_not_load_says_why() -> None:
    why = "which has no loaded version. Model 'double' loading failed with error: boom"
    error = misfit(make_ensemble(DOUBLE), finder(double=why))
    assert str(error) == f"ensemble 'pipe' depends on 'double' {why}"


def test_the_reshaped_form_of_an_input_is_what_the_steps_receive() -> None:
    flat = make_ensemble(
        step("four", {"X": "X"}, {"Y": "Y"}),
        takes=(ModelInput("X", DataType.FP32, (2, 2), reshape=(4,)),),
        gives=(ModelOutput("Y", DataType.FP32, (2, 2), reshape=(4,)),),
        max_batch_size=4,
    )
    assert step_problems(flat, finder(FOUR)) == []


def test_several_problems_are_numbered_in_one_error() -> None:
    error = listed(make_ensemble(DOUBLE), ["first", "second"])
    assert str(error) == "ensemble 'pipe' has 2 errors: (1) first; (2) second"


def test_the_version_of_a_step_is_asked_for() -> None:
    asked: list[tuple[str, str]] = []

    def find(name: str, version: str) -> ModelConfig | Missing:
        asked.append((name, version))
        return DOUBLE_MODEL

    steps: tuple[EnsembleStep, ...] = (
        step("double", {"X": "X"}, {"Y": "a"}),
        step("double", {"X": "a"}, {"Y": "Y"}, version=3),
    )
    assert step_problems(make_ensemble(*steps), find) == []
    assert asked == [("double", ""), ("double", "3")]
