"""The declaration of padded axes: what it means, and what is said of a broken one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conch.config import pbtxt
from conch.config.complete import normalize
from conch.config.padding import (
    ABSENT,
    CPU_MAX_RATIO,
    GPU_MAX_RATIO,
    MAX_RATIO,
    MAX_TOKENS,
    PADDING,
    PaddedAxis,
    Padding,
    padding_problems,
    read_padding,
)
from conch.config.schema import ModelConfig
from conch.config.validate import validate
from conch.errors import InvalidArgumentError

TENSORS = """
input [
  { name: "ids" data_type: TYPE_INT64 dims: [ -1 ] },
  { name: "mask" data_type: TYPE_INT64 dims: [ -1 ] },
  { name: "image" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] },
  { name: "words" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "flags" data_type: TYPE_BOOL dims: [ -1 ] },
  { name: "half" data_type: TYPE_BF16 dims: [ -1 ] },
  { name: "ragged" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true },
  { name: "reshaped" data_type: TYPE_FP32 dims: [ -1 ] reshape { shape: [ -1, 1 ] } }
]
output [
  { name: "states" data_type: TYPE_FP32 dims: [ -1, 4 ] },
  { name: "attention" data_type: TYPE_FP32 dims: [ 2, -1, -1 ] }
]
"""
TEXT = {"sequence": {"inputs": {"ids": {"axis": 0, "value": 7}, "mask": {"axis": 0}}}}


def config(declared: object, batching: str = "dynamic_batching { }", **parameters: str) -> ModelConfig:
    text = declared if isinstance(declared, str) else json.dumps(declared)
    message = pbtxt.parse(f'name: "m" backend: "python" max_batch_size: 8 {TENSORS} {batching}')
    for key, value in {PADDING: text, **parameters}.items():
        message.parameters[key].string_value = value
    return pbtxt.from_message(normalize(message, Path("/nowhere")))


def read(declared: object, **parameters: str) -> Padding:
    padding = read_padding(config(declared, **parameters))
    assert padding is not None
    return padding


def problem(declared: object, **parameters: str) -> str:
    (text,) = padding_problems(config(declared, **parameters))
    assert text.startswith("model 'm', parameter '")
    return text


def test_inputs_and_outputs_of_a_group_share_its_length() -> None:
    padding = read(
        {
            "text": {
                "inputs": {"ids": {"axis": 0, "value": 7}, "mask": {"axis": 0}},
                "outputs": {"states": {"axis": 0}},
            },
            "width": {"inputs": {"image": {"axis": 2, "value": 0.5}}},
        }
    )
    assert padding.groups == ("text", "width")
    assert padding.inputs["ids"].axes == (PaddedAxis(0, 0),)
    assert (padding.inputs["ids"].fill, padding.inputs["mask"].fill, padding.inputs["image"].fill) == (7, 0, 0.5)
    assert padding.inputs["image"].axes == (PaddedAxis(2, 1),)
    assert padding.outputs == {"states": (PaddedAxis(0, 0),)}


def test_a_tensor_may_have_several_axes_of_one_group() -> None:
    padding = read({"text": {"inputs": {"ids": {"axis": 0}}, "outputs": {"attention": {"axis": [1, 2]}}}})
    assert padding.outputs == {"attention": (PaddedAxis(1, 0), PaddedAxis(2, 0))}


def test_the_tokens_of_a_row_are_the_length_the_area_or_the_sum_of_what_is_apart() -> None:
    height_and_width = {"h": {"inputs": {"image": {"axis": 1}}}, "w": {"inputs": {"image": {"axis": 2}}}}
    assert read(TEXT).tokens((5,)) == 5
    assert read(height_and_width).tokens((5, 6)) == 30
    assert read({**height_and_width, **TEXT}).tokens((5, 6, 7)) == 37
    assert read({**height_and_width, **TEXT}).tokens((ABSENT, ABSENT, 7)) == 7


def test_bounds_have_defaults_by_device_and_can_be_set() -> None:
    assert (read(TEXT).max_ratio, read(TEXT).max_tokens) == (CPU_MAX_RATIO, 0)
    bounded = read(TEXT, **{MAX_RATIO: "2", MAX_TOKENS: "4096"})
    assert (bounded.max_ratio, bounded.max_tokens) == (2.0, 4096)
    on_gpu = read_padding(config(TEXT, "dynamic_batching { } instance_group { kind: KIND_GPU }"))
    assert on_gpu is not None
    assert on_gpu.max_ratio == GPU_MAX_RATIO


@pytest.mark.parametrize(
    ("name", "value", "fill"),
    [
        ("words", None, b""),
        ("words", "[PAD]", b"[PAD]"),
        ("flags", True, True),
        ("image", -1, -1),
        ("half", 1.5, 0x3FC0),
    ],
)
def test_a_value_becomes_an_element_of_the_inputs_type(name: str, value: object, fill: object) -> None:
    axis = 1 if name == "image" else 0
    assert read({"g": {"inputs": {name: {"axis": axis, "value": value}}}}).inputs[name].fill == fill


def test_bf16_values_are_their_bits() -> None:
    fill = read({"g": {"inputs": {"half": {"axis": 0, "value": -2.0}}}}).inputs["half"].fill
    assert np.array([int(fill) << 16], dtype=np.uint32).view(np.float32)[0] == -2.0


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ("{", "expected JSON like"),
        ({}, "declares no group"),
        ({"g": {"inputs": {}}}, "group 'g' has no inputs"),
        ({"g": {"inputs": {"ids": {"axes": 0}}}}, "Object contains unknown field `axes`"),
        ({"g": {"inputs": {"ids": {"axis": "0"}}}}, "Expected `int | array`, got `str` - at `$[...].inputs[...].axis`"),
        ({"g": {"inputs": {"idz": {"axis": 0}}}}, "input 'idz' is not among the model's inputs 'ids', 'mask', 'image'"),
        (
            {"g": {"inputs": {"ids": {"axis": 0}}, "outputs": {"ids": {"axis": 0}}}},
            "output 'ids' is not among the model's outputs 'states', 'attention'",
        ),
        ({"g": {"inputs": {"ids": {"axis": 1}}}}, "has no axis 1: its dims [-1] have the axes 0 to 0"),
        ({"g": {"inputs": {"ids": {"axis": -1}}}}, "has no axis -1"),
        ({"g": {"inputs": {"ids": {"axis": []}}}}, "an empty list as 'axis'"),
        ({"g": {"inputs": {"image": {"axis": 0}}}}, "has the fixed size 3 on axis 0: make it -1 in 'dims'"),
        ({"g": {"inputs": {"image": {"axis": [1, 1]}}}}, "axis 1 is declared twice"),
        ({**TEXT, "g": {"inputs": {"ids": {"axis": 0}}}}, "axis 0 is declared twice"),
        ({"g": {"inputs": {"ragged": {"axis": 0}}}}, "has 'allow_ragged_batch', which batches it unpadded"),
        ({"g": {"inputs": {"reshaped": {"axis": 0}}}}, "has 'reshape'"),
        (
            {"g": {"inputs": {"ids": {"axis": 0, "value": 0.5}}}},
            "with 0.5: an input of type INT64 takes a whole number",
        ),
        ({"g": {"inputs": {"ids": {"axis": 0, "value": 2**70}}}}, "takes a whole number in its range"),
        ({"g": {"inputs": {"ids": {"axis": 0, "value": True}}}}, "takes a whole number"),
        ({"g": {"inputs": {"image": {"axis": 1, "value": "0"}}}}, "an input of type FP32 takes a number"),
        ({"g": {"inputs": {"image": {"axis": 1, "value": 1e300}}}}, "takes a number in its range"),
        ({"g": {"inputs": {"half": {"axis": 0, "value": 1e300}}}}, "an input of type BF16 takes a number"),
        ({"g": {"inputs": {"flags": {"axis": 0, "value": 1}}}}, "a BOOL input takes true or false"),
        ({"g": {"inputs": {"words": {"axis": 0, "value": 0}}}}, "a BYTES input takes a text"),
        (
            {"h": {"inputs": {"image": {"axis": 1, "value": 1}}}, "w": {"inputs": {"image": {"axis": 2, "value": 2}}}},
            "input 'image' has two different values",
        ),
    ],
)
def test_a_broken_declaration_is_told_what_is_wrong_and_what_to_do(declared: object, text: str) -> None:
    assert text in problem(declared)


@pytest.mark.parametrize("bad", ["0.9", "much", "nan", "inf", ""])
def test_a_ratio_below_one_is_refused(bad: str) -> None:
    assert f"'{MAX_RATIO}': expected a number of at least 1" in problem(TEXT, **{MAX_RATIO: bad})


@pytest.mark.parametrize("bad", ["0", "-1", "1.5", "many", ""])
def test_a_token_budget_that_is_no_positive_number_is_refused(bad: str) -> None:
    assert f"'{MAX_TOKENS}': expected a whole number of at least 1" in problem(TEXT, **{MAX_TOKENS: bad})


def test_a_configuration_with_a_broken_declaration_is_refused_with_all_its_problems() -> None:
    broken = config({"g": {"inputs": {"ids": {"axis": 1}, "nope": {"axis": 0}}}})
    with pytest.raises(InvalidArgumentError, match=r"model 'm' has 2 errors: .*no axis 1.*'nope' is not among"):
        validate(broken)
    with pytest.raises(InvalidArgumentError, match=r"no axis 1.*'nope' is not among"):
        read_padding(broken)


def test_a_model_that_forms_no_batches_pads_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    direct = config(TEXT, batching="")
    assert read_padding(direct) is None
    validate(direct)
    assert "'parameters' conch.padding is ignored since without 'dynamic_batching'" in caplog.text


def test_without_a_declaration_there_is_no_padding() -> None:
    message = pbtxt.parse(f'name: "m" backend: "python" max_batch_size: 8 {TENSORS} dynamic_batching {{ }}')
    assert read_padding(pbtxt.from_message(message)) is None
