"""Between the text of a configuration (config.pbtxt, JSON) and frozen values, by way of protobuf."""

from __future__ import annotations

import difflib
import json
import re

from google.protobuf import json_format, text_format

from conch.config import schema
from conch.config.batch_tensors import batch_inputs, batch_outputs
from conch.config.model_metrics import first_response_buckets
from conch.config.proto import ConfigPart, ModelConfigMessage, pb
from conch.config.sequences import sequence_batching
from conch.config.support import field_paths
from conch.config.validate import check
from conch.errors import InvalidArgumentError
from conch.tensor.datatype import DATATYPE_BY_CONFIG_NAME

_POSITION = re.compile(r"^\s*\d+:\d+\s*:\s*")
_UNKNOWN_FIELD = re.compile(r'has no field named "(\w+)"')


def parse(text: str, source: str = "config.pbtxt") -> ModelConfigMessage:
    """The message a config.pbtxt holds.

    Raises:
        InvalidArgumentError: not a ModelConfig in text format; the text names `source`, line, column and field.
    """
    message = pb.ModelConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        where = source if line is None else f"{source}, line {line}, column {column}"
        reason = _POSITION.sub("", str(error)).strip()
        raise InvalidArgumentError(f"failed to read text proto from {where}: {reason}{_hint(reason)}") from error
    return message


def parse_json(text: str) -> ModelConfigMessage:
    """The message a JSON configuration holds, as `to_json` writes it and as the load API accepts it.

    Raises:
        InvalidArgumentError: not JSON, or not a ModelConfig; the text names the field.
    """
    message = pb.ModelConfig()
    try:
        if not isinstance(json.loads(text), dict):
            raise json_format.ParseError("expected a JSON object of ModelConfig fields")
        json_format.Parse(text, message)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        # protobuf lets AttributeError and TypeError through for some values of the wrong JSON type.
        reason = " ".join(str(error).split())
        raise InvalidArgumentError(f"Invalid config override: {reason}{_hint(reason)}") from error
    return message


def _hint(reason: str) -> str:
    unknown = _UNKNOWN_FIELD.search(reason)
    if unknown is None:
        return ""
    names = sorted({path.rpartition(".")[2] for path in field_paths()})
    close = difflib.get_close_matches(unknown.group(1), names, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def from_message(message: ModelConfigMessage) -> schema.ModelConfig:
    """A message as frozen values. The message is copied, so that later changes to it do not show.

    Tensors may still lack `dims`, which auto-complete can add; everything else must be in order.

    Raises:
        InvalidArgumentError: the configuration breaks a rule; the text lists every broken one.
    """
    check(message, complete=False)
    kept = pb.ModelConfig()
    kept.CopyFrom(message)
    batching = _dynamic_batching(kept.dynamic_batching) if kept.HasField("dynamic_batching") else None
    ensemble = _ensemble_scheduling(kept.ensemble_scheduling) if kept.HasField("ensemble_scheduling") else None
    return schema.ModelConfig(
        message=kept,
        name=kept.name,
        platform=kept.platform,
        backend=kept.backend,
        max_batch_size=kept.max_batch_size,
        input=tuple(_input(tensor) for tensor in kept.input),
        output=tuple(_output(tensor) for tensor in kept.output),
        version_policy=version_policy(kept),
        instance_group=tuple(_instance_group(group) for group in kept.instance_group),
        dynamic_batching=batching,
        default_model_filename=kept.default_model_filename,
        parameters={key: kept.parameters[key].string_value for key in kept.parameters},
        decoupled=kept.model_transaction_policy.decoupled,
        first_response_buckets=first_response_buckets(kept),
        response_cache=kept.response_cache.enable,
        ensemble_scheduling=ensemble,
        sequence_batching=sequence_batching(kept) if kept.HasField("sequence_batching") else None,
        model_warmup=tuple(map(_warm_up, kept.model_warmup)),
        batch_input=batch_inputs(kept),
        batch_output=batch_outputs(kept),
    )


def _input(tensor: ConfigPart) -> schema.ModelInput:
    return schema.ModelInput(
        name=tensor.name,
        data_type=DATATYPE_BY_CONFIG_NAME[pb.DataType.Name(tensor.data_type)],
        dims=tuple(tensor.dims),
        reshape=tuple(tensor.reshape.shape) if tensor.HasField("reshape") else None,
        optional=tensor.optional,
        allow_ragged_batch=tensor.allow_ragged_batch,
    )


def _output(tensor: ConfigPart) -> schema.ModelOutput:
    return schema.ModelOutput(
        name=tensor.name,
        data_type=DATATYPE_BY_CONFIG_NAME[pb.DataType.Name(tensor.data_type)],
        dims=tuple(tensor.dims),
        reshape=tuple(tensor.reshape.shape) if tensor.HasField("reshape") else None,
        label_filename=tensor.label_filename,
    )


def version_policy(message: ModelConfigMessage) -> schema.VersionPolicy:
    """The version policy of a normalized configuration."""
    policy = message.version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        return schema.VersionPolicy(specific=tuple(policy.specific.versions))
    if choice == "latest":
        return schema.VersionPolicy(latest=policy.latest.num_versions)
    return schema.VersionPolicy(all=True)


def _instance_group(group: ConfigPart) -> schema.InstanceGroup:
    return schema.InstanceGroup(
        name=group.name,
        kind=pb.ModelInstanceGroup.Kind.Name(group.kind).removeprefix("KIND_"),
        count=group.count,
        gpus=tuple(group.gpus),
        passive=group.passive,
        rate_limit=schema.RateLimit(
            tuple(
                schema.RateResource(each.name, each.count, getattr(each, "global"))
                for each in group.rate_limiter.resources
            ),
            group.rate_limiter.priority,
        ),
    )


def _dynamic_batching(batching: ConfigPart) -> schema.DynamicBatching:
    return schema.DynamicBatching(
        preferred_batch_size=tuple(batching.preferred_batch_size),
        max_queue_delay_microseconds=batching.max_queue_delay_microseconds,
        preserve_ordering=batching.preserve_ordering,
        priority_levels=batching.priority_levels,
        default_priority_level=batching.default_priority_level,
        default_queue_policy=_queue_policy(batching.default_queue_policy),
        priority_queue_policy={
            level: _queue_policy(batching.priority_queue_policy[level]) for level in batching.priority_queue_policy
        },
    )


def _ensemble_scheduling(scheduling: ConfigPart) -> schema.EnsembleScheduling:
    steps = tuple(
        schema.EnsembleStep(step.model_name, step.model_version, dict(step.input_map), dict(step.output_map))
        for step in scheduling.step
    )
    return schema.EnsembleScheduling(steps, scheduling.max_inflight_requests)


def _warm_up(setting: ConfigPart) -> schema.WarmUp:
    inputs = tuple(
        schema.WarmUpInput(
            name=name,
            data_type=DATATYPE_BY_CONFIG_NAME[pb.DataType.Name(given.data_type)],
            dims=tuple(given.dims),
            source=given.WhichOneof("input_data_type") or "",
            data_file=given.input_data_file,
        )
        for name, given in sorted(setting.inputs.items())
    )
    return schema.WarmUp(setting.name, setting.batch_size, max(1, setting.count), inputs)


def _queue_policy(policy: ConfigPart) -> schema.QueuePolicy:
    return schema.QueuePolicy(
        timeout_action=pb.ModelQueuePolicy.TimeoutAction.Name(policy.timeout_action),
        default_timeout_microseconds=policy.default_timeout_microseconds,
        allow_timeout_override=policy.allow_timeout_override,
        max_queue_size=policy.max_queue_size,
    )
