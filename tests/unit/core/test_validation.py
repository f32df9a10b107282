"""Requests against their configuration: what fits, and what a client is told when it does not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from conch.config.schema import ModelInput, ModelOutput
from conch.core.validation import RequestRules, reshape_dims
from conch.errors import InvalidArgumentError
from conch.inference import Form, InferRequest, RequestedOutput
from conch.tensor import DataType, Tensor
from tests.unit.core.conftest import make_config

TWO_INPUTS = (ModelInput("INPUT0", DataType.INT32, (16,)), ModelInput("INPUT1", DataType.INT32, (16,)))
OUTPUTS = (ModelOutput("OUTPUT0", DataType.INT32, (16,)),)
RULES = RequestRules(make_config(name="simple", inputs=TWO_INPUTS, outputs=OUTPUTS))


def tensor(name: str, *shape: int, datatype: DataType = DataType.INT32) -> Tensor:
    return Tensor.from_numpy(name, np.zeros(shape, dtype=datatype.dtype), datatype)


def request(*inputs: Tensor, outputs: tuple[str, ...] = ()) -> InferRequest:
    return InferRequest("simple", "", inputs, outputs=tuple(map(RequestedOutput, outputs)))


def test_a_fitting_request_passes_with_its_batch_size() -> None:
    checked = RULES.check(request(tensor("INPUT0", 3, 16), tensor("INPUT1", 3, 16)))
    assert checked.batch_size == 3


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (
            request(tensor("INPUT0", 1, 16)),
            "[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'simple'. Got input(s) "
            "['INPUT0'], "
            "but missing required input(s) ['INPUT1']. Please provide all required input(s).",
        ),
        (
            request(tensor("INPUT0", 1, 16, datatype=DataType.FP32), tensor("INPUT1", 1, 16)),
            "inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'",
        ),
        (
            request(tensor("INPUT0", 1, 8), tensor("INPUT1", 1, 16)),
            "unexpected shape for input 'INPUT0' for model 'simple'. Expected [-1,16], got [1,8]. NOTE: Setting a",
        ),
        (
            request(tensor("INPUT0", 9, 16), tensor("INPUT1", 9, 16)),
            "inference request batch-size must be <= 8 for 'simple'",
        ),
        (
            request(tensor("INPUT0", 1, 16), tensor("INPUT1", 2, 16)),
            "input 'INPUT0' batch size does not match other inputs for 'simple'",
        ),
        (
            request(tensor("INPUT0", 1, 16), tensor("OTHER", 1, 16)),
            "unexpected inference input 'OTHER' for model 'simple'",
        ),
        (
            request(tensor("INPUT0", 1, 16), tensor("INPUT1", 1, 16), outputs=("NOPE",)),
            "unexpected inference output 'NOPE' for model 'simple'",
        ),
        (request(tensor("INPUT0"), tensor("INPUT1")), "has no shape but model requires batch dimension for 'simple'"),
    ],
)
def test_a_request_that_does_not_fit_is_told_what_was_expected(bad: InferRequest, text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        RULES.check(bad)
    assert text in str(caught.value)


def test_optional_inputs_may_be_left_out_and_then_do_not_share_a_batch_with_full_requests() -> None:
    inputs = (TWO_INPUTS[0], ModelInput("INPUT1", DataType.INT32, (16,), optional=True))
    rules = RequestRules(make_config(name="simple", inputs=inputs, outputs=OUTPUTS))
    partial = rules.check(request(tensor("INPUT0", 1, 16)))
    full = rules.check(request(tensor("INPUT0", 1, 16), tensor("INPUT1", 1, 16)))
    assert partial.shape_key != full.shape_key
    with pytest.raises(InvalidArgumentError, match="expected number of inputs between 1 and 2 but got 0 inputs"):
        rules.check(request())


def test_a_model_whose_inputs_are_all_optional_may_be_asked_without_any() -> None:
    inputs = tuple(ModelInput(name, DataType.INT32, (16,), optional=True) for name in ("INPUT0", "INPUT1"))
    rules = RequestRules(make_config(name="simple", inputs=inputs, outputs=OUTPUTS))
    assert rules.check(request()).batch_size == 1


def test_reshape_changes_the_shape_the_model_receives() -> None:
    inputs = (ModelInput("INPUT0", DataType.INT32, (1,), reshape=()),)
    rules = RequestRules(make_config(name="simple", inputs=inputs, outputs=OUTPUTS))
    checked = rules.check(request(tensor("INPUT0", 4, 1)))
    assert checked.request.inputs[0].shape == (4,)


def test_reshape_carries_variable_sizes_over_in_order() -> None:
    assert reshape_dims((7, 1, 3), (-1, 1, -1), (-1, -1)) == (7, 3)


def test_a_model_without_batching_takes_shapes_as_they_are() -> None:
    rules = RequestRules(make_config(name="simple", max_batch_size=0, inputs=TWO_INPUTS[:1], outputs=OUTPUTS))
    assert rules.check(request(tensor("INPUT0", 16))).batch_size == 1
    with pytest.raises(InvalidArgumentError, match=r"Expected \[16\], got \[1,16\]"):
        rules.check(request(tensor("INPUT0", 1, 16)))


def test_a_form_that_is_known_is_checked_as_if_it_were_not() -> None:
    rules = RequestRules(make_config(name="simple", inputs=TWO_INPUTS, outputs=OUTPUTS))
    plain = request(tensor("INPUT0", 3, 16), tensor("INPUT1", 3, 16))
    formed = msgspec.structs.replace(plain, form=Form())
    first, again = rules.check(formed), rules.check(formed)
    assert (again.batch_size, again.shape_key, again.lengths) == (3, first.shape_key, first.lengths)
    assert again.request is formed


def test_a_form_that_does_not_fit_is_refused_each_time() -> None:
    bad = msgspec.structs.replace(request(tensor("INPUT0", 1, 8), tensor("INPUT1", 1, 16)), form=Form())
    for _ in range(2):
        with pytest.raises(InvalidArgumentError, match="unexpected shape for input 'INPUT0'"):
            RULES.check(bad)


def test_a_reshaped_request_is_reshaped_whatever_its_form() -> None:
    inputs = (ModelInput("INPUT0", DataType.INT32, (16,), reshape=(4, 4)),)
    rules = RequestRules(make_config(name="simple", inputs=inputs, outputs=OUTPUTS))
    formed = msgspec.structs.replace(request(tensor("INPUT0", 2, 16)), form=Form())
    assert [rules.check(formed).request.inputs[0].shape for _ in range(2)] == [(2, 4, 4), (2, 4, 4)]
