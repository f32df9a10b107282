from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from conch.config import complete, pbtxt, validate
from conch.config.json_format import to_json
from conch.config.proto import ModelConfigMessage, pb
from conch.config.schema import ModelConfig, VersionPolicy
from conch.config.versions import select_versions
from conch.errors import InvalidArgumentError

SETTINGS = settings(max_examples=40, deadline=None)

NAMES = st.text("abcXYZ019_-.", min_size=1, max_size=8)
DATA_TYPES = [value.name for value in pb.DataType.DESCRIPTOR.values if value.number]
MICROSECONDS = st.integers(0, 2**64 - 1)


@st.composite
def tensors(draw: st.DrawFn, kind: Any) -> list[Any]:
    listed = []
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        dims = draw(st.lists(st.sampled_from([-1, 1, 2, 3, 2**40]), min_size=1, max_size=4))
        tensor = kind(name=name, data_type=pb.DataType.Value(draw(st.sampled_from(DATA_TYPES))), dims=dims)
        if draw(st.booleans()):
            tensor.reshape.shape.extend([1, *dims])
        listed.append(tensor)
    return listed


@st.composite
def configurations(draw: st.DrawFn) -> ModelConfigMessage:
    """Valid configurations of a Python model that use every honoured field."""
    size = draw(st.integers(0, 64))
    message = pb.ModelConfig(name=draw(NAMES), backend="python", max_batch_size=size)
    message.input.extend(draw(tensors(pb.ModelInput)))
    message.output.extend(draw(tensors(pb.ModelOutput)))
    for key, value in draw(st.dictionaries(NAMES, st.text(max_size=8), max_size=3)).items():
        message.parameters[key].string_value = value
    for name, count in draw(st.lists(st.tuples(NAMES, st.integers(0, 4)), max_size=3)):
        message.instance_group.add(name=name, count=count, kind=draw(st.sampled_from([0, 1, 2, 3])))
    if draw(st.booleans()):
        batching = message.dynamic_batching
        batching.max_queue_delay_microseconds = draw(MICROSECONDS)
        batching.preferred_batch_size.extend(draw(st.lists(st.integers(1, size), max_size=3)) if size else [])
        levels = batching.priority_levels = draw(st.integers(0, 3))
        batching.default_priority_level = draw(st.integers(1, levels)) if levels else 0
        for level in range(1, levels + 1):
            batching.priority_queue_policy[level].default_timeout_microseconds = draw(MICROSECONDS)
    if draw(st.booleans()):
        message.version_policy.specific.versions.extend(draw(st.lists(st.integers(0, 2**63 - 1), max_size=3)))
    return message


@SETTINGS
@given(configurations())
def test_a_configuration_survives_its_text_form(message: ModelConfigMessage) -> None:
    assert pbtxt.parse(text_format.MessageToString(message)) == message


@SETTINGS
@given(configurations())
def test_a_configuration_survives_its_json_form(message: ModelConfigMessage) -> None:
    assert pbtxt.parse_json(to_json(message)) == message


@SETTINGS
@given(configurations())
def test_json_form_prints_every_field_without_presence(message: ModelConfigMessage) -> None:
    printed = json.loads(to_json(message))
    expected = {field.name for field in pb.ModelConfig.DESCRIPTOR.fields if not field.has_presence or field.is_repeated}
    assert expected <= set(printed)


@SETTINGS
@given(message=configurations(), gpu_count=st.integers(0, 4))
def test_normalizing_is_idempotent_and_keeps_configurations_valid(message: ModelConfigMessage, gpu_count: int) -> None:
    once = complete.normalize(message, Path("/nowhere"), gpu_count)
    assert complete.normalize(once, Path("/nowhere"), gpu_count) == once
    validate.check(once, complete=True)


@SETTINGS
@given(message=configurations(), gpu_count=st.integers(0, 4))
def test_every_group_has_as_many_instances_as_it_counts(message: ModelConfigMessage, gpu_count: int) -> None:
    config: ModelConfig = pbtxt.from_message(complete.normalize(message, Path("/nowhere"), gpu_count))
    placed = complete.resolve_instances(config, gpu_count)
    devices = {"CPU": 1, "MODEL": 1, "GPU": max(gpu_count, 1)}
    assert len(placed) == sum(group.count * devices[group.kind] for group in config.instance_group)


@SETTINGS
@given(message=configurations(), answer=configurations())
def test_merging_an_answer_takes_its_tensors_and_keeps_the_rest(
    message: ModelConfigMessage, answer: ModelConfigMessage
) -> None:
    message.ClearField("dynamic_batching")
    merged = complete.merge_auto_complete(message, json.loads(to_json(answer)))
    assert (merged.max_batch_size, list(merged.input), list(merged.output)) == (
        answer.max_batch_size,
        list(answer.input),
        list(answer.output),
    )
    assert (merged.name, merged.parameters) == (message.name, message.parameters)


KEYS = st.sampled_from(["name", "input", "dims", "reshape", "dynamic_batching", "parameters", "x"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(KEYS, children),
    max_leaves=8,
)


@SETTINGS
@given(JSON_VALUES)
def test_any_json_is_a_configuration_or_an_error_of_the_client(value: object) -> None:
    try:
        pbtxt.parse_json(json.dumps(value))
    except InvalidArgumentError as error:
        assert str(error).startswith("Invalid config override: ")


@SETTINGS
@given(st.text(max_size=40) | st.text('{}[]:"\n input dims name 123', max_size=40))
def test_any_text_is_a_configuration_or_an_error_with_its_place(text: str) -> None:
    try:
        pbtxt.parse(text)
    except InvalidArgumentError as error:
        assert "config.pbtxt" in str(error)


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        pbtxt.parse_json('{"a":' * 20_000 + "1" + "}" * 20_000)


@SETTINGS
@given(dims=st.lists(st.sampled_from([-1, 1, 2, 3, 4, 6]), min_size=1, max_size=5), data=st.data())
def test_splitting_a_dimension_in_two_is_always_a_valid_reshape(dims: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(dims) - 1))
    split = [dims[at]]
    if dims[at] > 1:
        factor = data.draw(st.sampled_from([f for f in range(1, dims[at] + 1) if dims[at] % f == 0]))
        split = [factor, dims[at] // factor]
    tensor = pb.ModelInput(name="A", data_type="TYPE_FP32", dims=dims)
    tensor.reshape.shape.extend([*dims[:at], *split, *dims[at + 1 :]])
    message = pb.ModelConfig(name="m", backend="python", input=[tensor])
    assert validate.violations(message, complete=True) == []


@SETTINGS
@given(available=st.sets(st.integers(0, 20)), latest=st.integers(0, 25), named=st.lists(st.integers(0, 20)))
def test_selected_versions_are_available_and_ascending(available: set[int], latest: int, named: list[int]) -> None:
    newest = select_versions(VersionPolicy(latest=latest), available)
    assert newest == sorted(available)[len(available) - min(latest, len(available)) :]
    assert select_versions(VersionPolicy(all=True), available) == sorted(available)
    assert set(select_versions(VersionPolicy(specific=tuple(named)), available)) == set(named) & available
