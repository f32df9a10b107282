"""From a model to the requests that load it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from conch.bench.channel import Channel
from conch.bench.samples import Sample, Wishes, alternatives, default_parameters
from conch.bench.target import Target
from conch.bench.wires import Call, Wire
from conch.errors import ConchError, InvalidArgumentError, UnavailableError
from conch.inference import Parameter
from conch.tensor import Tensor

#: The output that is made for people, of what the others hold; it is left out unless it is asked for.
_FOR_PEOPLE = "json"


class Order(msgspec.Struct, frozen=True):
    """What requests are to hold.

    Attributes:
        given: inputs of the user's, request by request, batch dimension included; reused in turn. Empty for none.
        outputs: names; empty for all that programs read.
        parameters: of every request.
        batch: inferences a request.
    """

    wishes: Wishes = Wishes()
    given: Sequence[Mapping[str, np.ndarray]] = ()
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = {}
    batch: int = 1


async def prepare(wire: Wire, target: Target, order: Order, timeout_s: float) -> list[Call]:
    """Requests that the model accepts: each way to make them is tried, with its largest request first.

    Texts that are too long for the model are truncated by it, if it has that parameter. Where the largest request is
    refused all the same but the first is not, the refusals are left to be counted.

    Raises:
        ConchError: the model refuses them all, or they cannot be made; the text is the server's.
    """
    tried: list[tuple[list[Call], str]] = []
    channel = Channel(wire.dial, timeout_s)
    try:
        for make in alternatives(target, order.wishes):
            samples = make()
            calls = [make_call(target, order, samples, index) for index in range(len(samples))]
            for ready in _with_truncation(calls, target):
                refused = await _refusal(wire, channel, target, max(ready, key=_byte_size))
                if not refused:
                    return ready
                tried.append((ready, refused))
        for ready, _ in tried:
            if not await _refusal(wire, channel, target, ready[0]):
                return ready
    finally:
        channel.close()
    raise ConchError(tried[0][1])


def _with_truncation(calls: list[Call], target: Target) -> Iterator[list[Call]]:
    """The calls as they are, and asking for truncation where the model knows that parameter."""
    yield calls
    known = target.settings.get("request_parameters", "").split()
    if "truncation:bool" in known and "truncation" not in calls[0].parameters:
        replace = msgspec.structs.replace
        yield [replace(call, parameters={**call.parameters, "truncation": True}) for call in calls]


async def _refusal(wire: Wire, channel: Channel, target: Target, call: Call) -> str:
    """Why the model refuses a call, "" if it does not.

    Raises:
        UnavailableError: there is no answer.
    """
    answer = await channel.ask(wire.encode(call))
    if answer.lost:
        raise UnavailableError(f"model '{target.name}': {answer.error}")
    return f"model '{target.name}' refuses the request: {answer.error}" if answer.error else ""


def _byte_size(call: Call) -> int:
    return sum(tensor.byte_size for tensor in call.inputs)


def make_call(target: Target, order: Order, samples: Sequence[Sample], index: int) -> Call:
    """Request number `index`; one of several inferences takes the samples that follow too.

    Raises:
        InvalidArgumentError: samples of unequal shape, or a batch for a model that does not batch.
    """
    if order.batch > 1 and not target.batches:
        raise InvalidArgumentError(f"model '{target.name}' does not batch (max_batch_size 0): leave --batch out")
    given = order.given[index % len(order.given)] if order.given else {}
    arrays: dict[str, np.ndarray] = {}
    for spec in target.inputs:
        if spec.name in given:
            array = given[spec.name]
            arrays[spec.name] = array.repeat(order.batch, axis=0) if len(array) == 1 and target.batches else array
        elif spec.name in samples[index]:
            parts = [samples[(index + more) % len(samples)][spec.name] for more in range(order.batch)]
            if len({part.shape for part in parts}) > 1:
                raise InvalidArgumentError(f"input '{spec.name}' has samples of unequal shape: leave --batch out")
            arrays[spec.name] = np.stack(parts) if target.batches else parts[0]
    datatypes = {spec.name: spec.datatype for spec in target.inputs}
    tensors = tuple(Tensor.from_numpy(name, array, datatypes[name]) for name, array in arrays.items())
    parameters = {**default_parameters(target), **order.parameters}
    return Call(target.name, target.version, tensors, order.outputs or outputs_for_programs(target), parameters)


def outputs_for_programs(target: Target) -> tuple[str, ...]:
    """All outputs but the one that repeats the others as JSON."""
    return tuple(name for name in target.outputs if name != _FOR_PEOPLE) or target.outputs


def batch_of(call: Call, target: Target) -> int:
    """Inferences in a request."""
    return call.inputs[0].shape[0] if target.batches and call.inputs and call.inputs[0].shape else 1
