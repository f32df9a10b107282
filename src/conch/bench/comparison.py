"""Several models side by side: the same requests, the same load, in rounds that take turns."""

from __future__ import annotations

import os
import statistics
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import msgspec
import numpy as np

from conch.bench.advice import Profile, advise
from conch.bench.channel import Channel
from conch.bench.differences import OutputDifference, differences
from conch.bench.figures import Measurement, Setting
from conch.bench.measure import Duration, Load, measure
from conch.bench.prepare import Order, prepare
from conch.bench.processes import Memory, Running, machine_cpu_s
from conch.bench.stages import Walk, walk
from conch.bench.statistics import ModelDelta, Snapshot
from conch.bench.sweep import Progress, Server, describe_steps, make_load, open_wire
from conch.bench.target import Target, describe
from conch.bench.wires import Call, Wire
from conch.errors import ConchError, InvalidArgumentError

#: Answers that are compared: enough to see every kind of input, few enough to take no time.
_COMPARED = 8


class Figures(msgspec.Struct, frozen=True):
    """A model at one setting: medians over the rounds; percentiles None where nothing was answered.

    Attributes:
        cpu_ms: processor time of the server and its children for one inference.
        busy: share of the machine's cores that were busy, with whatever.
    """

    setting: Setting
    throughput: float
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    first_error: str
    cpu_ms: float
    busy: float
    client_cpu: float
    walk: Walk | None


class Column(msgspec.Struct, frozen=True):
    """A model's column of the comparison. `differences` are against the first column, empty for that itself."""

    label: str
    startup_s: float
    memory: Memory
    figures: tuple[Figures, ...]
    differences: tuple[OutputDifference, ...]
    advice: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True):
    """What to measure: each setting `rounds` times on each model, in turn."""

    protocol: str
    settings: Sequence[Setting]
    duration: Duration
    rounds: int


class _CpuTime(msgspec.Struct, frozen=True):
    """Processor time of a server with its children, and of the whole machine."""

    server_s: float
    machine_s: float


class _Contestant:
    """A running server and what is known of its model."""

    def __init__(self, server: Running, wire: Wire, target: Target, steps: Sequence[Target]) -> None:
        self.server = server
        self.wire = wire
        self.target = target
        self.steps = steps
        self.answers: list[dict[str, np.ndarray]] = []
        self.looks: list[_CpuTime] = []
        self.measured: dict[Setting, list[tuple[Measurement, _CpuTime]]] = {}

    async def load(self, calls: Sequence[Call], seed: int) -> Load:
        """The load of these calls; each look at the statistics also notes the processor time."""
        load = await make_load(self.wire, self.target, calls, seed)

        async def look() -> Snapshot:
            snapshot = await load.look()
            self.looks.append(_CpuTime(self.server.cpu_s(), machine_cpu_s()))
            return snapshot

        return msgspec.structs.replace(load, look=look)


async def compare(
    servers: Sequence[Running], plan: Plan, order_for: Callable[[Target], Order], progress: Callable[[str], Progress]
) -> list[Column]:
    """Measure the servers' models; the first is what the others are compared with.

    Args:
        order_for: what requests are to hold, asked once with the first model.
        progress: told by the model's label.

    Raises:
        ConchError: a model cannot be asked, or the models take different inputs.
    """
    contestants = [await _meet(server, plan) for server in servers]
    first = contestants[0]
    for other in contestants[1:]:
        _check_same_inputs(first, other)
    order = order_for(first.target)
    order = msgspec.structs.replace(order, outputs=order.outputs or _shared_outputs(contestants))
    calls = await prepare(first.wire, first.target, order, plan.duration.patience_s)
    loads = []
    for each in contestants:
        own = [msgspec.structs.replace(call, model=each.target.name) for call in calls]
        each.answers = [await _ask(each, call, plan.duration.patience_s) for call in own[:_COMPARED]]
        loads.append(await each.load(own, order.wishes.seed))
    for _ in range(plan.rounds):
        for setting in plan.settings:
            for each, load in zip(contestants, loads, strict=True):
                told = progress(each.server.subject.label)
                told.begin(setting)
                measurement = await measure(load, setting, plan.duration, told.tick)
                before, after = each.looks[-2:]
                spent = _CpuTime(after.server_s - before.server_s, after.machine_s - before.machine_s)
                each.measured.setdefault(setting, []).append((measurement, spent))
    return [_column(each, first, plan) for each in contestants]


async def _meet(server: Running, plan: Plan) -> _Contestant:
    wire = open_wire(Server(plan.protocol, server.url(plan.protocol), plan.duration.patience_s))
    target = await describe(wire, server.subject.model)
    return _Contestant(server, wire, target, await describe_steps(wire, target))


def _check_same_inputs(first: _Contestant, other: _Contestant) -> None:
    wanted, found = ({spec.name: spec.datatype for spec in each.target.inputs} for each in (first, other))
    if wanted != found:
        texts = [", ".join(f"{name} {kind.value}" for name, kind in sorted(each.items())) for each in (wanted, found)]
        raise InvalidArgumentError(
            f"{first.server.subject.label} takes {texts[0]}, and {other.server.subject.label} takes {texts[1]}: only "
            "models of the same inputs can be compared"
        )


def _shared_outputs(contestants: Sequence[_Contestant]) -> tuple[str, ...]:
    """The outputs that all models have, but for the one made for people."""
    sets = [set(each.target.outputs) for each in contestants]
    shared = reduce(set.intersection, sets)
    programs = tuple(name for name in contestants[0].target.outputs if name in shared and name != "json")
    if not shared:
        raise InvalidArgumentError("the models have no output of the same name: they cannot be compared")
    return programs or tuple(sorted(shared))


async def _ask(contestant: _Contestant, call: Call, timeout_s: float) -> dict[str, np.ndarray]:
    channel = Channel(contestant.wire.dial, timeout_s)
    try:
        answer = await channel.ask(contestant.wire.encode(call))
    finally:
        channel.close()
    if answer.error:
        raise ConchError(f"{contestant.server.subject.label} refuses the request: {answer.error}")
    return contestant.wire.decode(answer)


def _column(contestant: _Contestant, first: _Contestant, plan: Plan) -> Column:
    figures = tuple(_figures(contestant, setting) for setting in plan.settings)
    apart = () if contestant is first else differences(first.answers, contestant.answers)
    return Column(
        contestant.server.subject.label,
        contestant.server.startup_s,
        contestant.server.memory(),
        figures,
        apart,
        tuple(_advice(contestant, figures[-1])),
    )


def _figures(contestant: _Contestant, setting: Setting) -> Figures:
    measured = contestant.measured[setting]
    runs = [measurement for measurement, _ in measured]
    latencies = [run.latency for run in runs if run.latency is not None]
    spent_s, seconds = sum(cpu.server_s for _, cpu in measured), sum(run.seconds for run in runs)
    machine_s = sum(cpu.machine_s for _, cpu in measured)
    inferences = sum(run.throughput * run.seconds for run in runs)
    mean_ms = statistics.median(latency.mean_ms for latency in latencies) if latencies else 0.0
    totals = [_total(models) for models in zip(*(run.statistics for run in runs), strict=False)]
    return Figures(
        setting,
        statistics.median(run.throughput for run in runs),
        statistics.median(latency.p50_ms for latency in latencies) if latencies else None,
        statistics.median(latency.p99_ms for latency in latencies) if latencies else None,
        sum(run.errors for run in runs),
        next((run.first_error for run in runs if run.first_error), ""),
        spent_s * 1000 / inferences if inferences else 0.0,
        min(1.0, max(spent_s / cores(), machine_s / (os.cpu_count() or 1)) / seconds),
        max(run.client_cpu for run in runs),
        walk(contestant.target, contestant.steps, totals, mean_ms),
    )


def _total(models: Sequence[ModelDelta]) -> ModelDelta:
    """One model's figures of several rounds, added up."""
    fields = [name for name in ModelDelta.__struct_fields__ if name != "model"]
    return ModelDelta(models[0].model, **{name: sum(getattr(each, name) for each in models) for name in fields})


def _advice(contestant: _Contestant, figures: Figures) -> list[str]:
    if figures.walk is None:
        return [f"nothing was answered: {figures.first_error}"] if figures.errors else []
    targets = {each.name: each for each in (contestant.target, *contestant.steps)}
    concurrency = figures.setting.concurrency or 1
    padding = read_padding(_metrics(contestant.server))
    profile = Profile(
        figures.walk,
        targets,
        concurrency,
        figures.busy,
        cores(),
        figures.client_cpu,
        padding,
        figures.errors,
    )
    return advise(profile)


def cores() -> int:
    """Cores that this process and its children may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every platform
        return os.cpu_count() or 1


def _metrics(server: Running) -> str:
    """The metrics page, "" where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics}/metrics", timeout=5) as answer:
            page: bytes = answer.read()
    except (urllib.error.URLError, OSError):
        return ""
    return page.decode()


def read_padding(page: str) -> float:
    """Share of padding among the positions in batches that a metrics page tells of; 0 where it does not."""
    counted: Mapping[str, float] = {
        kind: sum(
            float(line.rsplit(" ", 1)[1])
            for line in page.splitlines()
            if line.startswith("conch_padding_elements_total") and f'kind="{kind}"' in line
        )
        for kind in ("real", "padding")
    }
    total = counted["real"] + counted["padding"]
    return counted["padding"] / total if total else 0.0
