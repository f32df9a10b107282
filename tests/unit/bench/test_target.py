from __future__ import annotations

from typing import Any

from conch.bench.target import read_target
from conch.tensor import DataType

METADATA: dict[str, Any] = {
    "name": "clip",
    "inputs": [
        {"name": "image", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "scale", "datatype": "FP32", "shape": [-1, -1, 3]},
    ],
    "outputs": [{"name": "probs", "datatype": "FP32", "shape": [-1, -1]}],
}
CONFIG: dict[str, Any] = {
    "max_batch_size": 8,
    "platform": "ensemble",
    "input": [{"name": "image"}, {"name": "scale", "optional": True}],
    "parameters": {"task": {"string_value": "zero-shot-image-classification"}},
    "ensemble_scheduling": {
        "step": [{"model_name": "pre", "input_map": {"IN": "image"}, "output_map": {"OUT": "pixels"}}]
    },
}


def test_the_batch_dimension_is_left_out() -> None:
    target = read_target("clip", "", METADATA, CONFIG)
    assert target.batches
    assert [(spec.name, spec.datatype, spec.dims, spec.optional) for spec in target.inputs] == [
        ("image", DataType.BYTES, (1,), False),
        ("scale", DataType.FP32, (-1, 3), True),
    ]
    assert target.task == "zero-shot-image-classification"


def test_grpc_writes_64_bit_numbers_as_text() -> None:
    metadata = {"inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "16"]}]}
    target = read_target("m", "", metadata, {"max_batch_size": 4})
    assert target.inputs[0].dims == (16,)


def test_a_model_without_batching_keeps_all_dimensions() -> None:
    target = read_target("m", "", {"inputs": [{"name": "x", "datatype": "INT8", "shape": [2, 3]}]}, {})
    assert (target.batches, target.inputs[0].dims) == (False, (2, 3))


def test_steps_say_what_they_read_and_write() -> None:
    step = read_target("clip", "", METADATA, CONFIG).steps[0]
    assert (step.model, step.reads, step.writes) == ("pre", {"image"}, {"pixels"})


def test_instances_and_dynamic_batching_are_read() -> None:
    config = {"dynamic_batching": {}, "instance_group": [{"count": 2}, {"count": "1"}]}
    target = read_target("m", "", {}, config)
    assert (target.instances, target.dynamic_batching) == (3, True)
    assert not read_target("m", "", {}, {}).dynamic_batching
