"""The texts that have an equal in NVIDIA's Triton were recorded from version 2.51."""

from __future__ import annotations

import logging

import pytest

from conch.config.pbtxt import from_message, parse
from conch.config.validate import check, check_scheduling, ignored, validate, violations
from conch.errors import InvalidArgumentError

HEAD = 'name: "m" backend: "python" '
A = 'input { name: "A" data_type: TYPE_FP32 dims: 4 %s }'
B = 'output { name: "B" data_type: TYPE_FP32 dims: 4 %s }'
GROUP = 'instance_group { name: "g" %s }'
BATCHING = "max_batch_size: 4 dynamic_batching { %s }"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('backend: "python"', "model configuration must specify 'name'"),
        ('name: "m"', "must specify 'platform' or 'backend' for 'm'"),
        ('name: "m" platform: "nope"', "unexpected platform type 'nope' for m"),
        (
            'name: "m" platform: "x" backend: "onnxruntime"',
            "unexpected 'platform' and 'backend' pair, got:x, onnxruntime",
        ),
        (
            'name: "m" platform: "ensemble"',
            "ensemble scheduling must be set for ensemble m whose platform is ensemble",
        ),
        (HEAD + "max_batch_size: -1", "'max_batch_size' must be non-negative value for m, got -1"),
        (HEAD + 'input { data_type: TYPE_FP32 dims: 4 }', "model input must specify 'name' for m"),
        (HEAD + 'input { name: "A" dims: 4 }', "model input 'A' must specify 'data_type' for m"),
        (HEAD + 'input { name: "A" data_type: TYPE_FP32 }', "model input 'A' must specify 'dims' for m"),
        (HEAD + 'output { name: "B" dims: 4 }', "model output 'B' must specify 'data_type' for m"),
        (
            HEAD + 'input { name: "A" data_type: TYPE_FP32 dims: [ 2, 0 ] }',
            "model input 'A' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for m",
        ),
        (HEAD + (A + A) % ("", ""), "model input 'A' is specified more than once for m"),
        (HEAD + (B + B) % ("", ""), "model output 'B' is specified more than once for m"),
        (HEAD + A % "reshape { shape: [ 2, 3 ] }", "model input 'A' has different size for dims and reshape for m"),
        (
            HEAD + A % "reshape { shape: [ 0 ] }",
            "model input 'A' reshape dimensions must be integer >= 1, or -1 to indicate a variable-size dimension "
            "for m",
        ),
        (
            HEAD + A % "reshape { }",
            "model input 'A' cannot have empty reshape for non-batching model as scalar tensors are not supported "
            "for m",
        ),
        (
            HEAD + 'input { name: "A" data_type: TYPE_FP32 dims: [ -1, 4 ] reshape { shape: 4 } }',
            "model input 'A' has different size for dims and reshape for m",
        ),
        (
            HEAD + 'input { name: "A" data_type: TYPE_FP32 dims: [ 2, -1, 4 ] reshape { shape: [ 4, -1, 2 ] } }',
            "model input 'A' has different size for dims and reshape for m",
        ),
        (
            HEAD + 'input { name: "A" data_type: TYPE_FP32 dims: [ -1, -1 ] reshape { shape: [ -1 ] } }',
            "model input 'A' has different number of variable-size dimensions for dims and reshape for m",
        ),
        (HEAD + A % "format: FORMAT_NHWC", "model input NHWC/NCHW require 3 dims for m"),
        (HEAD + A % "is_shape_tensor: true", "shape tensors are only supported for TensorRT platform for m"),
        (
            HEAD + B % "is_non_linear_format_io: true",
            "Non-linear IO format is only supported for the TensorRT platform for m",
        ),
        (HEAD + BATCHING % "preferred_batch_size: 0", "dynamic batching preferred size must be positive for m"),
        (
            HEAD + BATCHING % "preferred_batch_size: 8",
            "dynamic batching preferred size must be <= max batch size for m",
        ),
        (HEAD + BATCHING % "priority_levels: 2", "default priority level must be in range [1, 2] for m"),
        (
            HEAD + BATCHING % "priority_levels: 2 default_priority_level: 3",
            "default priority level must be in range [1, 2] for m",
        ),
        (
            HEAD + BATCHING % "priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 5 value { } }",
            "priority queue policy must have priority level in range [1, 2] for m",
        ),
        (
            HEAD + BATCHING % "preserve_ordering: true priority_levels: 2 default_priority_level: 1",
            "Only one priority level is allowed when 'preserve_ordering' is true for m",
        ),
        (
            HEAD
            + BATCHING
            % "preserve_ordering: true default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1 }",
            "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for m",
        ),
        (
            HEAD + GROUP % "kind: KIND_CPU gpus: 0",
            "instance group g of model m has kind KIND_CPU but specifies one or more GPUs",
        ),
        (
            HEAD + GROUP % "kind: KIND_MODEL gpus: 0",
            "instance group g of model m has kind KIND_MODEL but specifies one or more GPUs",
        ),
        (
            HEAD + GROUP % 'profile: "1"',
            "instance group g of model m and platform  specifies profile field which is only supported for TensorRT "
            "models",
        ),
        (
            HEAD + GROUP % "passive: true",
            "every instance group of model m is passive: no instance would take requests",
        ),
        (
            'name: "m" platform: "ensemble" ensemble_scheduling { } instance_group { }',
            "instance group should not be specified for ensemble 'm'",
        ),
        (
            'name: "m" platform: "ensemble" ensemble_scheduling { } model_warmup { }',
            "model_warmup can not be specified for ensemble 'm'",
        ),
        (
            'name: "m" platform: "ensemble" backend: "python" ensemble_scheduling { }',
            "Ensemble model 'm' must have platform type 'ensemble' and empty backend type",
        ),
        (
            HEAD + 'model_repository_agents { agents { name: "checksum" } }',
            "'model_repository_agents' cannot be used for m: repository agents are not available",
        ),
        (
            HEAD + 'max_batch_size: 2 dynamic_batching { } '
            'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "/x.so" } }',
            "parameter 'TRITON_BATCH_STRATEGY_PATH' cannot be used for m: batching strategies are shared libraries "
            "that conch does not load; without the parameter the dynamic batcher decides",
        ),
    ],
)  # fmt: skip
def test_broken_rule_is_the_only_violation_found(text: str, expected: str) -> None:
    assert violations(parse(text), complete=True) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        A % "" + B % "",
        'input { name: "X" data_type: TYPE_FP32 dims: 4 } output { name: "X" data_type: TYPE_FP32 dims: 4 }',
        'input { name: "A" data_type: TYPE_FP32 dims: [ 2, 4, -1, 6 ] reshape { shape: [ 8, -1, 1, 6 ] } }',
        'max_batch_size: 2 input { name: "A" data_type: TYPE_FP32 dims: 1 reshape { } }',
        'platform: "onnxruntime_onnx"',
        "dynamic_batching { }",
        "max_batch_size: 4 dynamic_batching { default_priority_level: 1 }",
        "max_batch_size: 4 dynamic_batching { preserve_ordering: true default_queue_policy { timeout_action: DELAY } }",
        "instance_group { kind: KIND_GPU gpus: 0 }",
        "model_transaction_policy { decoupled: false }",
        "instance_group { rate_limiter { priority: 2 } } optimization { priority: PRIORITY_MAX }",
    ],
)
def test_what_triton_accepts_is_accepted(text: str) -> None:
    check(parse(HEAD + text), complete=True)


def test_all_violations_come_in_one_error() -> None:
    message = parse(HEAD + 'max_batch_size: -2 input { name: "A" dims: 0 } instance_group { name: "g" profile: "1" }')
    with pytest.raises(InvalidArgumentError) as caught:
        check(message, complete=True)
    text = str(caught.value)
    assert text.startswith("the configuration of model 'm' has 4 errors: (1) 'max_batch_size'")
    assert "(3) model input 'A' must specify 'data_type' for m; (4) model input 'A' dimension" in text


def test_response_cache_and_decoupled_exclude_each_other() -> None:
    message = parse(HEAD + "response_cache { enable: true } model_transaction_policy { decoupled: true }")
    assert (
        "Response Cache does not currently support model m with 'decoupled' transaction policy. "
        "Please disable the response cache."
    ) in violations(message, complete=True)


def test_response_cache_and_sequences_exclude_each_other() -> None:
    message = parse(HEAD + "response_cache { enable: true } sequence_batching { }")
    with pytest.raises(
        InvalidArgumentError, match="does not currently support model m with sequence batching scheduler"
    ):
        check_scheduling(message)


def test_a_response_cache_that_is_switched_off_excludes_nothing() -> None:
    message = parse(HEAD + "response_cache { enable: false } model_transaction_policy { decoupled: true }")
    assert not any("Response Cache" in text for text in violations(message, complete=True))


def test_dims_may_be_missing_until_the_configuration_is_complete() -> None:
    message = parse(HEAD + 'input { name: "A" data_type: TYPE_FP32 }')
    assert violations(message, complete=False) == []
    with pytest.raises(InvalidArgumentError, match="model input 'A' must specify 'dims' for m"):
        validate(from_message(message))


def test_ignored_fields_are_named_with_the_reason() -> None:
    message = parse(
        HEAD + "optimization { priority: PRIORITY_MAX graph { level: 1 } cuda { graphs: true } eager_batching: true }"
    )
    assert ignored(message) == [
        "'optimization.priority' is ignored (all models have the same priority)",
        "'optimization.cuda', 'optimization.eager_batching' are ignored (there is nothing to tune this way)",
    ]


def test_settings_without_effect_are_named() -> None:
    message = parse(HEAD + "dynamic_batching { default_priority_level: 1 }")
    assert ignored(message) == [
        "'dynamic_batching' forms no batches since 'max_batch_size' is 0",
        "'dynamic_batching' has priority settings that are ignored since 'priority_levels' is 0",
    ]


def test_validate_logs_one_warning_for_all_ignored_fields(caplog: pytest.LogCaptureFixture) -> None:
    config = from_message(
        parse(HEAD + 'cc_model_filenames { key: "7.5" value: "x" } optimization { priority: PRIORITY_MAX }')
    )
    with caplog.at_level(logging.WARNING):
        validate(config)
    assert len(caplog.records) == 1
    assert "'cc_model_filenames' is ignored" in caplog.text
    assert "'optimization.priority' is ignored" in caplog.text


def test_validate_is_silent_about_a_plain_configuration(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        validate(from_message(parse(HEAD + A % "" + "optimization { input_pinned_memory { enable: true } }")))
    assert caplog.records == []
