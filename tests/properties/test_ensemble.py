"""Random ensembles: every step that is needed runs exactly once, after those it needs, in any order of answers."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from conch.config.schema import EnsembleStep, ModelConfig
from conch.core.dependencies import loading_order
from conch.core.ensemble import EnsembleGraph, find_cycle, graph_problems, step_problems
from conch.core.queue import RequestFuture
from conch.core.step_gate import StepGate
from conch.errors import BackendError
from conch.inference import InferRequest, InferResponse, RequestedOutput
from conch.tensor import DataType, Tensor
from conch.testing.clock import settle
from tests.unit.core.ensembles import FakeStep, Pipe, inputs, make_ensemble, model_config, outputs, step


@st.composite
def ensembles(draw: st.DrawFn, limit: int = 0) -> ModelConfig:
    """A valid ensemble: each step takes tensors that exist, what nobody takes is an output; in any order."""
    given_names = [f"in{number}" for number in range(draw(st.integers(1, 3)))]
    tensors, steps = list(given_names), []
    for number in range(draw(st.integers(1, 8))):
        taken = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=3))
        made = [f"s{number}_{index}" for index in range(draw(st.integers(1, 2)))]
        takes = {f"I{index}": name for index, name in enumerate(taken)}
        steps.append(step(f"m{number}", takes, {f"O{index}": name for index, name in enumerate(made)}))
        tensors += made
    used = {name for one in steps for name in one.input_map.values()}
    ends = [name for name in tensors if name not in given_names and name not in used]
    more = draw(st.lists(st.sampled_from([name for name in tensors if name not in given_names]), unique=True))
    return make_ensemble(
        *draw(st.permutations(steps)),
        takes=inputs(*[name for name in given_names if name in used]),
        gives=outputs(*dict.fromkeys([*ends, *more])),
        limit=limit,
    )


def models_for(config: ModelConfig) -> dict[str, ModelConfig]:
    assert config.ensemble_scheduling is not None
    return {
        one.model_name: model_config(one.model_name, " ".join(one.input_map), " ".join(one.output_map))
        for one in config.ensemble_scheduling.step
    }


def needed_steps(config: ModelConfig, wanted: list[str]) -> set[str]:
    """The models of the steps that these outputs need, found the slow way."""
    assert config.ensemble_scheduling is not None
    maker = {name: one for one in config.ensemble_scheduling.step for name in one.output_map.values()}
    found: set[str] = set()
    open_names = list(wanted)
    while open_names:
        one = maker.get(open_names.pop())
        if one is not None:
            found.add(one.model_name)
            open_names += one.input_map.values()
    return found


def mark(name: str) -> bytes:
    """One FP32 element that tells where it comes from."""
    return name.ljust(4).encode()


class Run:
    """A pipe over models that note in which order they were asked, and answer their name and what they were given."""

    def __init__(self, config: ModelConfig) -> None:
        self.fakes = {name: FakeStep(model) for name, model in models_for(config).items()}
        self.pipe = Pipe(config, *self.fakes.values())
        self.answered = dict.fromkeys(self.fakes, 0)

    def infer(self, config: ModelConfig, wanted: list[str], request_id: str = "") -> RequestFuture:
        tensors = tuple(Tensor(spec.name, DataType.FP32, (1, 1), mark(spec.name)) for spec in config.input)
        asked = tuple(map(RequestedOutput, wanted))
        return self.pipe.infer(InferRequest("pipe", "", tensors, id=request_id, outputs=asked))

    def waiting(self) -> list[str]:
        return [name for name, fake in self.fakes.items() if self.answered[name] < len(fake.requests)]

    def answer(self, name: str) -> None:
        fake, number = self.fakes[name], self.answered[name]
        self.answered[name] += 1
        made = tuple(
            Tensor(spec.name, DataType.FP32, (1, 1), f"{name}{spec.name[1]} "[:4].encode())
            for spec in fake.config.output
        )
        fake.settle(fake.futures[number], InferResponse(name, "1", "", made), (1, 1, 1))


@given(ensembles())
def test_ensembles_made_this_way_are_valid(config: ModelConfig) -> None:
    models = models_for(config)
    assert graph_problems(config) == []
    assert step_problems(config, lambda name, version: models[name]) == []


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_needed_step_runs_once_and_no_requested_output_is_lost(data: st.DataObject) -> None:
    config = data.draw(ensembles())
    wanted = data.draw(st.lists(st.sampled_from([spec.name for spec in config.output]), min_size=1, unique=True))

    async def work() -> None:
        run = Run(config)
        future = run.infer(config, wanted)
        while not future.done():
            run.answer(data.draw(st.sampled_from(run.waiting())))
        assert {name for name, fake in run.fakes.items() if fake.requests} == needed_steps(config, wanted)
        assert all(len(fake.requests) <= 1 for fake in run.fakes.values())
        response = future.result()
        assert [tensor.name for tensor in response.outputs] == [s.name for s in config.output if s.name in wanted]
        assert config.ensemble_scheduling is not None
        sources = {
            name: mark(f"{one.model_name}{output[1]}")
            for one in config.ensemble_scheduling.step
            for output, name in one.output_map.items()
        }
        assert all(tensor.data == sources[tensor.name] for tensor in response.outputs)
        for one in config.ensemble_scheduling.step:
            for asked in run.fakes[one.model_name].requests:
                for tensor in asked.inputs:
                    origin = one.input_map[tensor.name]
                    assert tensor.data == sources.get(origin, mark(origin))
        assert run.pipe.model.in_flight == 0

    asyncio.run(work())


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_failure_anywhere_ends_the_request_once_and_leaves_nothing_running(data: st.DataObject) -> None:
    config = data.draw(ensembles())

    async def work() -> None:
        run = Run(config)
        settled: list[object] = []
        future = run.infer(config, [])
        future.on_settled = settled.append
        for _ in range(data.draw(st.integers(0, 6))):
            if not future.done():
                run.answer(data.draw(st.sampled_from(run.waiting())))
        if not future.done():
            name = data.draw(st.sampled_from(run.waiting()))
            run.fakes[name].fail(BackendError("no luck"))
            assert str(future.exception()) == f"in ensemble 'pipe', step '{name}': no luck"
        assert settled == [future]
        assert all(one.done() for fake in run.fakes.values() for one in fake.futures)
        assert run.pipe.model.in_flight == 0

    asyncio.run(work())


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_limit_is_kept_at_every_step_and_every_request_is_answered(data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, 3))
    config = data.draw(ensembles(limit))

    async def work() -> None:
        run = Run(config)
        futures = [run.infer(config, [], str(number)) for number in range(data.draw(st.integers(1, 8)))]
        while not all(future.done() for future in futures):
            for name, fake in run.fakes.items():
                assert len(fake.requests) - run.answered[name] <= limit
            run.answer(data.draw(st.sampled_from(run.waiting())))
            await settle(2)
        assert [future.result().id for future in futures] == [str(number) for number in range(len(futures))]

    asyncio.run(work())


GRAPHS = st.dictionaries(st.sampled_from("abcdef"), st.frozensets(st.sampled_from("abcdefgh"), max_size=3), max_size=6)


@given(GRAPHS)
def test_models_load_after_what_they_need_and_each_once(needs: dict[str, frozenset[str]]) -> None:
    order = loading_order(needs)
    assert sorted(order) == sorted(needs)
    if not find_cycle(needs):
        for name, models in needs.items():
            assert all(order.index(model) < order.index(name) for model in models if model in needs)


@given(GRAPHS)
def test_a_cycle_that_is_found_is_one_and_without_one_there_is_an_order(needs: dict[str, frozenset[str]]) -> None:
    cycle = [name.strip("'") for name in find_cycle(needs).split(" -> ")] if find_cycle(needs) else []
    if cycle:
        assert cycle[0] == cycle[-1]
        assert all(after in needs[before] for before, after in itertools.pairwise(cycle))
    else:
        done: set[str] = set()
        for name in loading_order(needs):
            assert needs[name] & needs.keys() <= done
            done.add(name)


def test_a_cycle_anywhere_is_refused() -> None:
    """Turning one edge of a valid chain round makes it unrunnable, and the error names the tensors."""
    chain: list[EnsembleStep] = [step(f"m{n}", {"X": f"t{n}"}, {"Y": f"t{n + 1}"}) for n in range(5)]
    base = make_ensemble(*chain, takes=inputs("t0"), gives=outputs("t5"))
    for position in range(4):
        turned = list(chain)
        turned[position] = msgspec.structs.replace(chain[position], input_map={"X": "t5"})
        assert base.ensemble_scheduling is not None
        config = msgspec.structs.replace(
            base, ensemble_scheduling=msgspec.structs.replace(base.ensemble_scheduling, step=tuple(turned))
        )
        assert any("wait for each other" in text for text in graph_problems(config))


@given(ensembles())
def test_every_step_of_a_valid_ensemble_is_needed(config: ModelConfig) -> None:
    graph = EnsembleGraph(config)
    assert graph.plan(()).steps == len(graph.steps)
    assert set(graph.feeds) == set(range(len(graph.steps)))


@given(st.integers(1, 3), st.lists(st.integers(0, 2), max_size=40))
def test_the_gate_never_counts_more_than_its_limit_and_forgets_nobody(limit: int, arrivals: list[int]) -> None:
    gate: StepGate[int] = StepGate(limit, {0: (1,), 1: (2,), 2: ()})
    inside: list[tuple[int, int]] = [(run, number) for run, number in enumerate(arrivals) if gate.enter(run, number)]
    through = len(inside)
    while inside:
        for number in range(3):
            assert sum(at == number for _, at in inside) <= limit
        gate.leave(inside.pop(0)[1])
        admitted = list(gate.admit())
        through += len(admitted)
        inside += admitted
    assert through == len(arrivals)
