"""The written scenarios, group by group; groups of one server stand side by side."""

from __future__ import annotations

from ..messages import Group, ServerSpec
from . import (
    control,
    grpc_calls,
    grpc_contents,
    grpc_infer,
    http_binary,
    http_compression,
    http_infer,
    http_outputs,
    http_parameters,
    http_requests,
    loading,
    metadata,
    model_errors,
    queues,
    statistics,
    versions,
)

DEFAULT = ServerSpec("default", "main")
EXPLICIT = ("--model-control-mode=explicit", "--load-model=simple")

GROUPS: list[Group] = [
    Group("metadata", DEFAULT, metadata.SCENARIOS),
    Group("http_requests", DEFAULT, http_requests.SCENARIOS),
    Group("http_infer", DEFAULT, http_infer.SCENARIOS),
    Group("http_outputs", DEFAULT, http_outputs.SCENARIOS),
    Group("http_binary", DEFAULT, http_binary.SCENARIOS),
    Group("http_compression", DEFAULT, http_compression.SCENARIOS),
    Group("http_parameters", DEFAULT, http_parameters.SCENARIOS),
    Group("model_errors", DEFAULT, model_errors.SCENARIOS),
    Group("queues", DEFAULT, queues.SCENARIOS),
    Group("grpc_calls", DEFAULT, grpc_calls.SCENARIOS),
    Group("grpc_infer", DEFAULT, grpc_infer.SCENARIOS),
    Group("grpc_contents", DEFAULT, grpc_contents.SCENARIOS),
    Group("versions", ServerSpec("versions", "versions"), versions.SCENARIOS),
    Group("statistics", ServerSpec("statistics", "main", EXPLICIT), statistics.STATISTICS),
    Group("metrics", ServerSpec("metrics", "main", EXPLICIT), statistics.METRICS),
    Group("logging", ServerSpec("logging", "main", EXPLICIT), control.LOGGING),
    Group("control", ServerSpec("control", "main", EXPLICIT), control.CONTROL),
    Group("broken", ServerSpec("broken", "broken", ("--exit-on-error=false",)), loading.AT_START),
    Group("broken_on_demand", ServerSpec("on_demand", "broken", ("--model-control-mode=explicit",)), loading.ON_DEMAND),
]
