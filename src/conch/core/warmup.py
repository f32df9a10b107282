"""Requests that each instance executes before it takes those of clients."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from conch.backend_api import Instance, Output, StreamingInstance, Unanswered
from conch.config.schema import ModelConfig, WarmUp, WarmUpInput
from conch.core.clock import Clock
from conch.core.stats import ModelStats
from conch.core.validation import RequestRules
from conch.errors import ConchError, InternalError, InvalidArgumentError
from conch.inference import InferRequest, request_prefix
from conch.tensor import DataType, Tensor
from conch.tensor.tensor import encode_bytes_elements
from conch.trace import RequestTrace

logger = logging.getLogger("conch.core.warmup")

#: Length of the random strings of a sample.
_RANDOM_LETTERS = 8


class Sample(msgspec.Struct, frozen=True):
    """One warm-up: `requests` are executed as one batch, `count` times."""

    name: str
    count: int
    requests: Sequence[InferRequest]


def read_samples(config: ModelConfig, directory: Path, version: int) -> Sequence[Sample]:
    """The warm-ups of a model, checked as requests of clients are.

    Args:
        directory: the model's, with the data files in `warmup/`.

    Raises:
        InvalidArgumentError: a sample does not fit the model; the text names the input.
        InternalError: a data file cannot be read.
    """
    rules = RequestRules(config)
    settings = [setting for setting in config.model_warmup if setting.batch_size]  # as in Triton, 0 is no request
    return [_read_sample(config, setting, rules, directory, version) for setting in settings]


async def warm_up(instance: Instance, label: str, samples: Sequence[Sample], stats: ModelStats, clock: Clock) -> None:
    """Have an instance execute its samples; they count as inferences.

    Raises:
        InvalidArgumentError: it answered with an error.
    """
    for sample in samples:
        logger.info("%s is running warmup sample '%s'", label, sample.name)
        for _ in range(sample.count):
            errors = await _execute(instance, sample.requests, stats, clock)
            if errors:
                listed = "".join(f"{error}; " for error in errors)
                raise InvalidArgumentError(f"failed to run warmup sample '{sample.name}': {listed}")


def _read_sample(config: ModelConfig, setting: WarmUp, rules: RequestRules, directory: Path, version: int) -> Sample:
    largest = max(1, config.max_batch_size)
    if setting.batch_size > largest:
        raise InvalidArgumentError(
            f"failed to run warmup sample '{setting.name}': batch size {setting.batch_size} for '{config.name}', max "
            f"allowed is {config.max_batch_size}"
        )
    for given in setting.inputs:
        if any(dim < 0 for dim in given.dims):
            raise InvalidArgumentError(
                f"warmup setting expects all variable-size dimensions are specified for input '{given.name}'"
            )
    own = {spec.name for spec in config.input}
    batch = (1,) if config.max_batch_size else ()
    inputs: list[Tensor] = []
    internal: list[Tensor] = []  # controls and states
    for given in setting.inputs:
        tensor = _tensor(given, (*batch, *given.dims), directory)
        (inputs if given.name in own else internal).append(tensor)
    request = rules.check(InferRequest(config.name, str(version), tuple(inputs))).request
    request = msgspec.structs.replace(request, inputs=(*request.inputs, *internal))
    return Sample(setting.name, setting.count, [request] * setting.batch_size)


def _tensor(given: WarmUpInput, shape: tuple[int, ...], directory: Path) -> Tensor:
    count = math.prod(shape)
    item_bytes = given.data_type.item_bytes
    if given.source == "input_data_file":
        data = _read_file(given, count * item_bytes, directory)
    elif given.source == "zero_data":
        data = bytes(count * (item_bytes or 4))
    elif given.source == "random_data" and given.data_type is DataType.BYTES:
        letters = np.random.default_rng().integers(ord("a"), ord("z") + 1, (count, _RANDOM_LETTERS), dtype=np.uint8)
        data = encode_bytes_elements(word.tobytes() for word in letters)
    elif given.source == "random_data":
        data = np.random.default_rng().bytes(count * item_bytes)
    else:
        raise InvalidArgumentError(
            f"{request_prefix('')}warmup setting expects input '{given.name}' to have input_data_type set"
        )
    if given.data_type is DataType.BOOL:
        data = bytes(byte & 1 for byte in data)
    return Tensor(given.name, given.data_type, shape, data)


def _read_file(given: WarmUpInput, expected_bytes: int, directory: Path) -> bytes:
    path = directory / "warmup" / given.data_file
    if not path.resolve().is_relative_to(directory.resolve()):
        raise InvalidArgumentError(
            f"'input_data_file' of input '{given.name}' must be a file in the model's warmup directory, got "
            f"'{given.data_file}'"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InternalError(f"failed to open text file for read {path}: {error.strerror}") from error
    if len(data) < expected_bytes:
        raise InvalidArgumentError(
            f"{request_prefix('')}warmup setting expects {expected_bytes} bytes, but the data provided from "
            f"{given.data_file} only has {len(data)} bytes"
        )
    return data[:expected_bytes] if expected_bytes else data


class _Sink:
    """Takes the responses that a model sends by itself; `ended` is settled with the last one."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.errors: list[ConchError] = []

    @property
    def trace(self) -> RequestTrace | None:
        """None: warm-up requests are not traced."""
        return None

    def send(self, outcome: Output | ConchError | None, final: bool) -> None:
        """See `conch.backend_api.ResponseSink`."""
        if isinstance(outcome, ConchError):
            self.errors.append(outcome)
        if final and not self.ended.done():
            self.ended.set_result(None)

    def when_taken(self, count: int, callback: Callable[[int], None]) -> None:
        """See `conch.backend_api.ResponseSink`: all are taken as they come."""
        callback(count)

    @property
    def cancelled(self) -> bool:
        """Nobody gives a warm-up up."""
        return False


async def _execute(
    instance: Instance, requests: Sequence[InferRequest], stats: ModelStats, clock: Clock
) -> Sequence[ConchError]:
    """The errors that a batch ended with."""
    started_ns = clock.monotonic_ns()
    sinks = [_Sink() for _ in requests]
    try:
        if isinstance(instance, StreamingInstance):
            result = await instance.execute_into(requests, sinks)
        else:
            result = await instance.execute(requests)
    except ConchError as error:
        return [error]
    errors: list[ConchError] = []
    for sink, outcome in zip(sinks, result.outputs, strict=False):
        if outcome is Unanswered.OPEN:
            await sink.ended
        errors += [outcome] if isinstance(outcome, ConchError) else sink.errors
    compute = (result.compute_input_ns, result.compute_infer_ns, result.compute_output_ns)
    stats.record_execution(len(requests), compute, clock.epoch_ms())
    for _ in requests:
        stats.record_success(1, clock.monotonic_ns() - started_ns, 0, compute)
    return errors
