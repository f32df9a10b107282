"""An ensemble as a graph: which steps wait for which, what a request needs of them, and whether it all fits together.

Pure functions of configurations. Steps are named by their position in `ensemble_scheduling.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from conch.config.schema import EnsembleStep, ModelConfig, ModelInput, ModelOutput
from conch.core.ensemble_sources import source_problems
from conch.errors import InvalidArgumentError
from conch.inference import RequestedOutput
from conch.tensor import DataType


class Missing(msgspec.Struct, frozen=True):
    """Why a step has no model: "" where none of that name serves or could, else what follows "depends on 'NAME'"."""

    why: str = ""


#: The configuration of a model in a version ("" for the newest that is ready).
FindConfig = Callable[[str, str], ModelConfig | Missing]


class Step(msgspec.Struct, frozen=True):
    """One step, compiled.

    Attributes:
        model_version: "" for the newest that is ready.
        inputs: (the model's input, the ensemble's tensor) pairs.
        outputs: (the model's output, the ensemble's tensor) pairs.
        requested: what is asked of the model: everything that is mapped.
    """

    model_name: str
    model_version: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    requested: tuple[RequestedOutput, ...]


class Plan(msgspec.Struct, frozen=True):
    """What one request runs.

    Attributes:
        steps: how many steps run; the others are needed for no output that was asked for.
        first: the steps that need nothing but the request's own tensors.
        waits_for: step -> how many other steps it waits for.
        feeds: step -> the steps that wait for it.
        outputs: the ensemble tensors to answer with.
    """

    steps: int
    first: tuple[int, ...]
    waits_for: Mapping[int, int]
    feeds: Mapping[int, tuple[int, ...]]
    outputs: tuple[str, ...]


class EnsembleGraph:
    """The steps of a valid ensemble and the plans made for the outputs that clients ask for."""

    def __init__(self, config: ModelConfig) -> None:
        self.steps = tuple(map(_compile, _steps(config)))
        self._outputs = tuple(spec.name for spec in config.output)
        self._made_by = {tensor: number for number, step in enumerate(self.steps) for _, tensor in step.outputs}
        self._plans: dict[frozenset[str], Plan] = {}
        self._complete = self._make_plan(self._outputs)

    def source(self, output: str) -> tuple[Step, str] | None:
        """The step that makes an output, and the name its model has for it."""
        number = self._made_by.get(output)
        if number is None:
            return None
        step = self.steps[number]
        return step, next(name for name, tensor in step.outputs if tensor == output)

    @property
    def feeds(self) -> Mapping[int, Sequence[int]]:
        """Step -> the steps that wait for it."""
        return self._complete.feeds

    def plan(self, requested: Sequence[RequestedOutput]) -> Plan:
        """What runs for these outputs; () asks for all."""
        if not requested:
            return self._complete
        names = frozenset(output.name for output in requested)
        plan = self._plans.get(names)
        if plan is None:
            plan = self._plans[names] = self._make_plan(tuple(name for name in self._outputs if name in names))
        return plan

    def _make_plan(self, outputs: tuple[str, ...]) -> Plan:
        needed: dict[int, set[int]] = {}
        wanted = [self._made_by[tensor] for tensor in outputs if tensor in self._made_by]
        while wanted:
            number = wanted.pop()
            if number not in needed:
                sources = {tensor for _, tensor in self.steps[number].inputs}
                needed[number] = {self._made_by[tensor] for tensor in sources if tensor in self._made_by}
                wanted.extend(needed[number])
        feeds: dict[int, list[int]] = {number: [] for number in needed}
        for number in sorted(needed):
            for before in needed[number]:
                feeds[before].append(number)
        return Plan(
            steps=len(needed),
            first=tuple(number for number in sorted(needed) if not needed[number]),
            waits_for={number: len(before) for number, before in needed.items()},
            feeds={number: tuple(after) for number, after in feeds.items()},
            outputs=outputs,
        )


def _compile(step: EnsembleStep) -> Step:
    return Step(
        model_name=step.model_name,
        model_version=version_text(step),
        inputs=tuple(step.input_map.items()),
        outputs=tuple(step.output_map.items()),
        requested=tuple(RequestedOutput(output) for output in step.output_map),
    )


def _steps(config: ModelConfig) -> tuple[EnsembleStep, ...]:
    return config.ensemble_scheduling.step if config.ensemble_scheduling is not None else ()


def models_of(config: ModelConfig) -> frozenset[str]:
    """The models an ensemble uses itself; empty for every other model."""
    return frozenset(step.model_name for step in _steps(config) if step.model_name)


def decoupled_steps(config: ModelConfig, find: Callable[[str, str], ModelConfig]) -> frozenset[int]:
    """The steps of an ensemble whose models may answer more than once."""
    return frozenset(
        number for number, step in enumerate(_steps(config)) if find(step.model_name, version_text(step)).decoupled
    )


def with_transaction_policy(config: ModelConfig, decoupled: bool) -> ModelConfig:
    """An ensemble that is decoupled or not, as its steps are, whatever its configuration says."""
    if config.decoupled == decoupled:
        return config
    message = type(config.message)()
    message.CopyFrom(config.message)
    message.model_transaction_policy.decoupled = decoupled
    return msgspec.structs.replace(config, decoupled=decoupled, message=message)


def listed(config: ModelConfig, problems: Sequence[str]) -> InvalidArgumentError:
    """One error that lists all problems of an ensemble; there is at least one."""
    if len(problems) == 1:
        return InvalidArgumentError(problems[0])
    numbered = " ".join(f"({number}) {text};" for number, text in enumerate(problems, start=1))
    return InvalidArgumentError(f"ensemble '{config.name}' has {len(problems)} errors: {numbered.rstrip(';')}")


def misfit(config: ModelConfig, find: FindConfig) -> InvalidArgumentError | None:
    """What does not fit between an ensemble and the models of its steps; None for nothing, and for no ensemble."""
    problems = step_problems(config, find)
    return listed(config, problems) if problems else None


def graph_problems(config: ModelConfig) -> list[str]:
    """What is wrong with an ensemble whatever its models are, in Triton's words where it has them."""
    steps = _steps(config)
    if not steps:
        return [f"must specify 'step' for ensemble '{config.name}'"]
    return [*_incomplete_steps(config), *_loose_ends(config), *_unrunnable_steps(config)]


def _incomplete_steps(config: ModelConfig) -> Iterator[str]:
    made: set[str] = {spec.name for spec in config.input}
    for number, step in enumerate(_steps(config)):
        described = f"in step {number} of ensemble '{config.name}'"
        if not step.model_name:
            yield f"must specify 'model_name' {described}"
        if not step.input_map:
            yield f"must specify 'input_map' {described}"
        if not step.output_map:
            yield f"must specify 'output_map' {described}"
        for tensor in step.output_map.values():
            if tensor in made:
                yield (
                    f"ensemble tensor '{tensor}' can appear in an output map only once for ensemble '{config.name}' "
                    f"step {number}" + (": it is an input of the ensemble" if _is_input(config, tensor) else "")
                )
            made.add(tensor)


def _is_input(config: ModelConfig, tensor: str) -> bool:
    return any(spec.name == tensor for spec in config.input)


def _loose_ends(config: ModelConfig) -> Iterator[str]:
    steps = _steps(config)
    used = {tensor for step in steps for tensor in step.input_map.values()}
    outputs = {spec.name for spec in config.output}
    made = {tensor for step in steps for tensor in step.output_map.values()}
    for spec in config.input:
        if spec.name not in used:
            yield f"ensemble input '{spec.name}' for ensemble '{config.name}' is not used"
    for tensor in sorted(made - used - outputs):
        yield f"ensemble tensor '{tensor}' is unused in ensemble '{config.name}'"
    for name in sorted(outputs - made):
        yield f"ensemble output '{name}' for ensemble '{config.name}' is not made by any step"


def _unrunnable_steps(config: ModelConfig) -> Iterator[str]:
    """Steps that can never run: a tensor they need is made by nobody, or only after themselves."""
    steps = _steps(config)
    ready = {spec.name for spec in config.input}
    waiting = list(steps)
    while runnable := [step for step in waiting if ready.issuperset(step.input_map.values())]:
        waiting = [step for step in waiting if step not in runnable]
        ready.update(tensor for step in runnable for tensor in step.output_map.values())
    made = {tensor for step in steps for tensor in step.output_map.values()}
    needed = {tensor for step in waiting for tensor in step.input_map.values()}
    for tensor in sorted(needed - ready - made):
        users = ", ".join(f"'{step.model_name}'" for step in steps if tensor in step.input_map.values())
        yield f"ensemble tensor '{tensor}' of ensemble '{config.name}' is not made by any step, but needed by {users}"
    maker = {tensor: step for step in waiting for tensor in step.output_map.values()}
    cycle = find_cycle({tensor: set(maker[tensor].input_map.values()) & maker.keys() for tensor in maker})
    if cycle:
        yield f"steps of ensemble '{config.name}' wait for each other's tensors: {cycle}"


def find_cycle(needs: Mapping[str, Iterable[str]]) -> str:
    """One cycle of a graph (name -> the names it needs), as "'a' -> 'b' -> 'a'"; "" without any."""
    done: set[str] = set()
    for start in sorted(needs):
        path = [start]
        branches = [iter(sorted(needs[start]))]
        while path:
            following = next(branches[-1], None)
            if following is None:
                done.add(path.pop())
                branches.pop()
            elif following in path:
                return " -> ".join(f"'{name}'" for name in [*path[path.index(following) :], following])
            elif following not in done:
                path.append(following)
                branches.append(iter(sorted(needs.get(following, ()))))
    return ""


def step_problems(config: ModelConfig, find: FindConfig) -> list[str]:
    """What does not fit between an ensemble and the models of its steps, in Triton's words."""
    problems: dict[str, None] = {}
    absent: dict[str, None] = {}
    own: tuple[ModelInput | ModelOutput, ...] = (*config.input, *config.output)
    tensors = {
        spec.name: _Node(config, spec.data_type, spec.dims if spec.reshape is None else spec.reshape) for spec in own
    }
    decoupled: set[int] = set()
    for number, step in enumerate(_steps(config)):
        if not step.model_name:
            continue
        model = find(step.model_name, version_text(step))
        if isinstance(model, ModelConfig):
            if model.decoupled:
                decoupled.add(number)
            problems.update(dict.fromkeys(_batch_problems(config, model)))
            problems.update(dict.fromkeys(_mapping_problems(config, step, model, tensors)))
        elif model.why:
            problems[f"ensemble '{config.name}' depends on '{step.model_name}' {model.why}"] = None
        else:
            absent[step.model_name] = None
    problems.update(dict.fromkeys(source_problems(config, decoupled)))
    if decoupled and config.response_cache and not config.decoupled:  # else it is told of the configuration itself
        problems[
            f"Response Cache does not currently support model {config.name} with 'decoupled' transaction policy, which "
            "it has from its steps. Please disable the response cache."
        ] = None
    missing = [f"ensemble {config.name} contains models that are not available or ambiguous: {', '.join(absent)}"]
    return (missing if absent else []) + list(problems)


def version_text(step: EnsembleStep) -> str:
    """The version of a step as requests name it."""
    return "" if step.model_version == -1 else str(step.model_version)


class _Node:
    """Datatype and shape of an ensemble tensor as one model has them."""

    def __init__(self, config: ModelConfig, datatype: DataType, dims: tuple[int, ...]) -> None:
        self.model = config.name
        self.datatype = datatype.config_name
        self.dims = dims
        self.full = (-1, *dims) if config.max_batch_size else dims

    def conflict(self, other: _Node) -> str:
        """Why both cannot be the same tensor; "" when they can."""
        if self.datatype != other.datatype:
            return (
                f"inconsistent data type: {self.datatype} is inferred from model {self.model} while {other.datatype} "
                f"is inferred from model {other.model}"
            )
        if not (_compatible(self.dims, other.dims) or _compatible(self.full, other.full)):
            return (
                f"inconsistent shape: {_shape(self.full)} is inferred from model {self.model} while "
                f"{_shape(other.full)} is inferred from model {other.model}"
            )
        return ""


def _compatible(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return len(left) == len(right) and all(a == b or -1 in (a, b) for a, b in zip(left, right, strict=True))


def _shape(dims: Iterable[int]) -> str:
    return "[" + ",".join(map(str, dims)) + "]"


def _batch_problems(config: ModelConfig, model: ModelConfig) -> Iterator[str]:
    if 0 < model.max_batch_size < config.max_batch_size:
        yield (
            f"ensemble {config.name} allows maximum batch size {config.max_batch_size}, but it contains model "
            f"{model.name} which only allows maximum batch size to be {model.max_batch_size}"
        )


def _mapping_problems(
    config: ModelConfig, step: EnsembleStep, model: ModelConfig, tensors: dict[str, _Node]
) -> Iterator[str]:
    ensemble = config.name
    inputs = {spec.name: spec for spec in model.input}
    outputs = {spec.name: spec for spec in model.output}
    for name, tensor in step.input_map.items():
        if name not in inputs:
            yield (
                f"in ensemble {ensemble}, ensemble tensor {tensor} is mapping to non-existing input {name} in model "
                f"{model.name}"
            )
    for name, spec in inputs.items():
        if name not in step.input_map and not spec.optional:
            yield f"in ensemble {ensemble}, input {name} in model {model.name} is not mapped to any ensemble tensors"
    for name, tensor in step.output_map.items():
        if name not in outputs:
            yield (
                f"in ensemble {ensemble}, ensemble tensor {tensor} is mapped from non-existing output {name} in model "
                f"{model.name}"
            )
    for mapping, specs in ((step.input_map, inputs), (step.output_map, outputs)):
        for name, tensor in mapping.items():
            if name not in specs:
                continue
            node = _Node(model, specs[name].data_type, specs[name].dims)
            conflict = tensors.setdefault(tensor, node).conflict(node)
            if conflict:
                yield f"in ensemble {ensemble}, ensemble tensor {tensor}: {conflict}"
