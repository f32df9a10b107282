"""A whole benchmark of one model: ask about it, make requests, measure setting after setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from conch.bench.figures import Measurement, Setting
from conch.bench.grpc_wire import GrpcWire
from conch.bench.http_wire import HttpWire
from conch.bench.measure import Duration, Load, measure
from conch.bench.prepare import Order, batch_of, prepare
from conch.bench.statistics import look, models_of
from conch.bench.target import Target, describe
from conch.bench.wires import Call, Wire, read_address
from conch.errors import ConchError


class Server(msgspec.Struct, frozen=True):
    """Where to find a server: protocol ("http", "grpc"), `host:port` ("" for the default), patience with an answer."""

    protocol: str = "http"
    url: str = ""
    timeout_s: float = 60.0


class Progress(msgspec.Struct, frozen=True):
    """Who is told how it goes: `begin` before each setting, `tick` with the seconds that passed."""

    begin: Callable[[Setting], None]
    tick: Callable[[float], None]


class Sweep(msgspec.Struct, frozen=True):
    """What came of it; `complete` is False when a setting had no answers at all and the rest was left out."""

    target: Target
    calls: Sequence[Call]
    batch: int
    measurements: tuple[Measurement, ...]
    complete: bool


def open_wire(server: Server) -> Wire:
    """The protocol's wire; nothing is sent yet."""
    address = read_address(server.url, server.protocol)
    return (GrpcWire if server.protocol == "grpc" else HttpWire)(address, server.timeout_s)


async def sweep(
    wire: Wire,
    target: Target,
    order: Order,
    settings: Sequence[Setting],
    duration: Duration,
    progress: Progress,
) -> Sweep:
    """Measure the settings in turn.

    Raises:
        ConchError: the model cannot be asked.
    """
    calls = await prepare(wire, target, order, duration.patience_s)
    load = await make_load(wire, target, calls, order.wishes.seed)
    measurements: list[Measurement] = []
    for setting in settings:
        progress.begin(setting)
        measurements.append(await measure(load, setting, duration, progress.tick))
        if not measurements[-1].requests and measurements[-1].errors:
            break
    complete = len(measurements) == len(settings) and measurements[-1].requests > 0
    return Sweep(target, calls, load.batch, tuple(measurements), complete)


async def make_load(wire: Wire, target: Target, calls: Sequence[Call], seed: int) -> Load:
    """What is sent for `calls`, and the statistics to look at: the model's, and those of its steps."""
    models = models_of(target, await describe_steps(wire, target))
    requests = [wire.encode(call) for call in calls]
    return Load(wire, requests, batch_of(calls[0], target), lambda: look(wire, models), seed)


async def describe_steps(wire: Wire, target: Target) -> list[Target]:
    """The models of an ensemble's steps, and of their steps; those the server does not describe are left out."""
    found: dict[str, Target] = {}
    waiting = [step.model for step in target.steps]
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        try:
            found[name] = await describe(wire, name)
        except ConchError:
            continue
        waiting += [step.model for step in found[name].steps]
    return list(found.values())
