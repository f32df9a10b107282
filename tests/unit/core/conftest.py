"""Configurations, requests and schedulers for the tests of the core; numpy and fakes are all they need."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import model_config_pb2 as pb

from conch.backend_api import InstanceSpec, ModelSource
from conch.config.schema import (
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    ModelInput,
    ModelOutput,
    VersionPolicy,
)
from conch.core.cache import ModelCache
from conch.core.metrics import CustomMetrics
from conch.core.model import Model
from conch.core.scheduler import Scheduler
from conch.core.scheduling import Respond
from conch.core.stats import ModelStats
from conch.inference import InferRequest
from conch.tensor import DataType, Tensor
from conch.testing import FakeClock


def make_config(
    *,
    name: str = "echo",
    max_batch_size: int = 8,
    batching: DynamicBatching | None = None,
    inputs: tuple[ModelInput, ...] = (ModelInput("INPUT0", DataType.FP32, (-1,)),),
    outputs: tuple[ModelOutput, ...] = (ModelOutput("OUTPUT0", DataType.FP32, (-1,)),),
    parameters: Mapping[str, str] | None = None,
) -> ModelConfig:
    return ModelConfig(
        message=pb.ModelConfig(name=name),
        name=name,
        platform="",
        backend="fake",
        max_batch_size=max_batch_size,
        input=inputs,
        output=outputs,
        version_policy=VersionPolicy(latest=1),
        instance_group=(InstanceGroup(name, "CPU", 1),),
        dynamic_batching=batching,
        default_model_filename="",
        parameters=parameters or {},
    )


def make_request(values: object = (1.0, 2.0), **fields: Any) -> InferRequest:
    """A request for `echo` with INPUT0 of shape [batch, n]: a flat sequence is a batch of one."""
    array = np.atleast_2d(np.asarray(values, dtype=np.float32))
    return InferRequest("echo", "", (Tensor.from_numpy("INPUT0", array, DataType.FP32),), **fields)


class Harness:
    """A model over fake instances."""

    def __init__(
        self,
        backend: Any,
        config: ModelConfig,
        instances: int = 1,
        cache: ModelCache | None = None,
        stats: ModelStats | None = None,
    ) -> None:
        self.clock = FakeClock()
        source = ModelSource(config.name, 1, Path("/nowhere"), {})
        self.instances = [
            backend.instance_class(InstanceSpec(source, config, f"echo_0_{i}", "CPU", 0, CustomMetrics()))
            for i in range(instances)
        ]
        labelled = [(f"echo_0_{i}", instance) for i, instance in enumerate(self.instances)]

        def make_scheduling(stats: ModelStats, respond: Respond) -> Scheduler:
            return Scheduler(config, labelled, stats, respond, self.clock)

        self.model = Model(config, 1, Path("/nowhere"), make_scheduling, self.clock, stats, cache)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
