"""The written scenarios, group by group; groups of one server stand side by side."""

from __future__ import annotations

from ..messages import Group, ServerSpec
from . import (
    batch_tensors,
    control,
    decoupled_ensembles,
    ensembles,
    faults,
    forwarding,
    generate,
    grpc_calls,
    grpc_contents,
    grpc_infer,
    http_binary,
    http_compression,
    http_infer,
    http_outputs,
    http_parameters,
    http_requests,
    instances,
    loading,
    metadata,
    model_errors,
    namespaces,
    python_api,
    python_backend,
    queues,
    rates,
    response_cache,
    restricted,
    sequences,
    shared_memory,
    statistics,
    tracing,
    versions,
    warmups,
)

DEFAULT = ServerSpec("default", "main")
RATES = ("--rate-limit=execution_count", "--rate-limit-resource=R1:4")
ON_DEMAND = ("--model-control-mode=explicit",)
KEEP_ON = ("--exit-on-error=false",)
BROKEN_ON_DEMAND = ServerSpec("ensembles_on_demand", "ensembles_broken", ON_DEMAND)
LOAD_EACH = ("--model-control-mode=explicit", "--load-model=*")
NAMESPACES = ("namespaces", (*namespaces.FLAGS, *KEEP_ON), ("namespaces_second",))
NAMESPACES_ON_DEMAND = ("namespaces", (*namespaces.FLAGS, *ON_DEMAND), ("namespaces_second",))
DUPLICATES = ServerSpec("duplicates", "namespaces", ON_DEMAND, ("namespaces_second",))
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
    Group("shared_memory", DEFAULT, shared_memory.SCENARIOS),
    Group("generate_models", DEFAULT, generate.MODELS),
    Group("grpc_calls", DEFAULT, grpc_calls.SCENARIOS),
    Group("grpc_infer", DEFAULT, grpc_infer.SCENARIOS),
    Group("grpc_contents", DEFAULT, grpc_contents.SCENARIOS),
    Group("generate", ServerSpec("generate", "generate", KEEP_ON), generate.MAPPING),
    Group("generate_decoupled", ServerSpec("generate", "generate", KEEP_ON), generate.DECOUPLED),
    Group("restricted", ServerSpec("restricted", "main", restricted.FLAGS), restricted.SCENARIOS),
    Group("forwarding", ServerSpec("forwarding", "main", forwarding.FLAGS), forwarding.SCENARIOS),
    Group("versions", ServerSpec("versions", "versions"), versions.SCENARIOS),
    Group("statistics", ServerSpec("statistics", "main", EXPLICIT), statistics.STATISTICS),
    Group("metrics", ServerSpec("metrics", "main", EXPLICIT), statistics.METRICS),
    Group("logging", ServerSpec("logging", "main", EXPLICIT), control.LOGGING),
    Group("tracing", ServerSpec("tracing", "main", tracing.FLAGS), tracing.HTTP),
    Group("tracing_rpcs", ServerSpec("tracing_rpcs", "main", tracing.FLAGS), tracing.GRPC),
    Group("control", ServerSpec("control", "main", EXPLICIT), control.CONTROL),
    Group("instances", ServerSpec("instances", "main", ON_DEMAND), instances.UPDATES),
    Group("faults", ServerSpec("faults", "main", ON_DEMAND), faults.FAULTS),
    Group("broken", ServerSpec("broken", "broken", ("--exit-on-error=false",)), loading.AT_START),
    Group("broken_on_demand", ServerSpec("on_demand", "broken", ("--model-control-mode=explicit",)), loading.ON_DEMAND),
    Group(
        "response_cache",
        ServerSpec("response_cache", "cached", ("--cache-config=local,size=1048576",)),
        response_cache.CACHE,
    ),
    Group("latencies", ServerSpec("latencies", "cached", response_cache.LATENCIES_FLAGS), response_cache.LATENCIES),
    Group("response_cache_default", ServerSpec("cache_default", "cached"), response_cache.DEFAULT),
    Group(
        "response_cache_refused",
        ServerSpec("cache_refused", "cache_refused", ("--model-control-mode=explicit",)),
        response_cache.REFUSED,
    ),
    Group("ensembles", ServerSpec("ensembles", "ensembles"), ensembles.ANSWERS),
    Group("ensemble_statistics", ServerSpec("ensemble_statistics", "ensembles", ON_DEMAND), ensembles.STATISTICS),
    Group("ensemble_metrics", ServerSpec("ensemble_metrics", "ensembles", ON_DEMAND), ensembles.METRICS),
    Group("ensemble_control", ServerSpec("ensemble_control", "ensembles", ON_DEMAND), ensembles.CONTROL),
    Group("ensembles_broken", ServerSpec("ensembles_broken", "ensembles_broken", KEEP_ON), ensembles.AT_START),
    Group("ensembles_broken_on_demand", BROKEN_ON_DEMAND, ensembles.ON_DEMAND),
    Group("decoupled", ServerSpec("python_backend", "python_backend", LOAD_EACH), python_backend.DECOUPLED),
    Group("model_calls", ServerSpec("python_backend", "python_backend", LOAD_EACH), python_backend.CALLS),
    Group(
        "decoupled_ensembles",
        ServerSpec("decoupled_ensembles", "decoupled_ensembles", KEEP_ON),
        decoupled_ensembles.ANSWERS,
    ),
    Group(
        "decoupled_ensembles_on_demand",
        ServerSpec("decoupled_ensembles_on_demand", "decoupled_ensembles", ON_DEMAND),
        decoupled_ensembles.LOADS,
    ),
    Group(
        "decoupled_statistics",
        ServerSpec("decoupled_statistics", "decoupled_ensembles", ON_DEMAND),
        decoupled_ensembles.STATISTICS,
    ),
    Group("python_api", ServerSpec("python_backend", "python_backend", LOAD_EACH), python_api.API),
    Group("labels", ServerSpec("python_backend", "python_backend", LOAD_EACH), python_api.LABELS),
    Group("sequences", ServerSpec("sequences", "sequences"), sequences.ANSWERS),
    Group("sequence_statistics", ServerSpec("sequence_statistics", "sequences"), sequences.STATISTICS),
    Group("sequences_refused", ServerSpec("sequences_refused", "sequences_broken", ON_DEMAND), sequences.REFUSED),
    Group("warmups", ServerSpec("warmups", "warmups", ON_DEMAND), warmups.WARM_UP),
    Group("batch_tensors", ServerSpec("batch_tensors", "batch_tensors", ON_DEMAND), batch_tensors.LOADS),
    Group("namespaces", ServerSpec("namespaces", *NAMESPACES), namespaces.SERVED),
    Group("namespaces_control", ServerSpec("namespaces_control", *NAMESPACES_ON_DEMAND), namespaces.CONTROLLED),
    Group("duplicates", DUPLICATES, namespaces.DUPLICATES),
    Group("rates", ServerSpec("rates", "rated", (*ON_DEMAND, *RATES)), rates.RATES),
]
