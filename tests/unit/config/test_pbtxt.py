from __future__ import annotations

import pytest

from conch.config.pbtxt import from_message, parse, parse_json
from conch.config.schema import DynamicBatching, InstanceGroup, ModelInput, ModelOutput, QueuePolicy, VersionPolicy
from conch.errors import InvalidArgumentError
from conch.tensor import DataType

FULL = """
name: "m" backend: "python" max_batch_size: 8
input [
  { name: "A" data_type: TYPE_FP32 dims: [ -1, 4 ] reshape { shape: [ -1, 2, 2 ] } optional: true },
  { name: "T" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] } allow_ragged_batch: true }
]
output { name: "B" data_type: TYPE_BF16 dims: 3 label_filename: "labels.txt" }
version_policy { specific { versions: [ 3, 1 ] } }
instance_group [ { name: "g" kind: KIND_GPU count: 2 gpus: [ 0, 1 ] }, { name: "p" kind: KIND_CPU passive: true } ]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100
  priority_levels: 2 default_priority_level: 1
  default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 7 allow_timeout_override: true }
  priority_queue_policy { key: 2 value { max_queue_size: 5 } }
}
default_model_filename: "model.py"
parameters { key: "k" value { string_value: "v" } }
response_cache { enable: true }
"""


def test_message_becomes_frozen_values() -> None:
    config = from_message(parse(FULL))
    assert (config.name, config.platform, config.backend, config.max_batch_size) == ("m", "", "python", 8)
    assert config.input == (
        ModelInput("A", DataType.FP32, (-1, 4), (-1, 2, 2), optional=True),
        ModelInput("T", DataType.BYTES, (1,), (), allow_ragged_batch=True),
    )
    assert config.output == (ModelOutput("B", DataType.BF16, (3,), label_filename="labels.txt"),)
    assert config.version_policy == VersionPolicy(specific=(3, 1))
    assert config.instance_group == (
        InstanceGroup("g", "GPU", 2, (0, 1)),
        InstanceGroup("p", "CPU", 0, passive=True),
    )
    assert config.dynamic_batching == DynamicBatching(
        preferred_batch_size=(4, 8),
        max_queue_delay_microseconds=100,
        priority_levels=2,
        default_priority_level=1,
        default_queue_policy=QueuePolicy("DELAY", 7, True),
        priority_queue_policy={2: QueuePolicy(max_queue_size=5)},
    )
    assert config.default_model_filename == "model.py"
    assert config.parameters == {"k": "v"}
    assert config.response_cache


def test_values_keep_the_message_as_it_was_when_it_changes_later() -> None:
    message = parse('name: "m" backend: "python"')
    config = from_message(message)
    message.name = "other"
    assert config.message.name == "m"


def test_absent_dynamic_batching_and_reshape_are_none() -> None:
    config = from_message(parse('name: "m" backend: "python" input { name: "A" data_type: TYPE_BOOL dims: 1 }'))
    assert config.dynamic_batching is None
    assert config.input[0].reshape is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version_policy { latest { num_versions: 2 } }", VersionPolicy(latest=2)),
        ("version_policy { all { } }", VersionPolicy(all=True)),
        ("version_policy { }", VersionPolicy(all=True)),
    ],
)
def test_version_policies(text: str, expected: VersionPolicy) -> None:
    assert from_message(parse(f'name: "m" backend: "python" {text}')).version_policy == expected


def test_tensor_without_dims_is_left_to_auto_complete() -> None:
    config = from_message(parse('name: "m" backend: "python" input { name: "A" data_type: TYPE_FP32 }'))
    assert config.input[0].dims == ()


def test_from_message_refuses_a_broken_configuration() -> None:
    with pytest.raises(InvalidArgumentError, match="must be non-negative value for m, got -1"):
        from_message(parse('name: "m" backend: "python" max_batch_size: -1'))


def test_unknown_field_error_names_file_line_column_and_the_nearest_field() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse('name: "m"\nmax_batch_sizes: 4\n', "repo/m/config.pbtxt")
    assert str(caught.value) == (
        "failed to read text proto from repo/m/config.pbtxt, line 2, column 1: Message type "
        '"inference.ModelConfig" has no field named "max_batch_sizes". Did you mean \'max_batch_size\'?'
    )


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ('max_batch_size: "x"', "line 1, column 17", "Couldn't parse integer"),
        ('name: "m"\ninput {{\n', "line 2, column 8", "Expected identifier"),
        ("input { data_type: TYPE_FLOAT }", "line 1", "TYPE_FLOAT"),
        ('name: "m"\ninput {', "line 2", "Expected"),
    ],
)
def test_syntax_errors_say_where_and_what(text: str, where: str, what: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse(text)
    assert f"config.pbtxt, {where}" in str(caught.value)
    assert what in str(caught.value)


def test_json_override_is_read_with_numbers_or_strings_for_64_bit_integers() -> None:
    text = '{"name":"m","input":[{"name":"A","data_type":"TYPE_FP32","dims":[%s]}]}'
    assert (
        parse_json(text % "4")
        == parse_json(text % '"4"')
        == parse('name: "m" input { name: "A" data_type: TYPE_FP32 dims: 4 }')
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "Invalid config override: "),
        ("[]", "expected a JSON object"),
        ('{"max_batch_sizes": 4}', "Did you mean 'max_batch_size'?"),
        ('{"max_batch_size": "many"}', "max_batch_size"),
        ('{"input": [{"data_type": "FLOAT"}]}', "data_type"),
    ],
)
def test_bad_json_override_is_refused_by_name(text: str, what: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_json(text)
    assert what in str(caught.value)
