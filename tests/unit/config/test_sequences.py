"""Sequence batching in a configuration: what is read, and the rules it has to keep."""

from __future__ import annotations

import pytest

from conch.config import pbtxt
from conch.config.schema import DirectSequences, InitialState, OldestSequences, SequenceControl, SequenceState
from conch.config.sequences import with_sequence_tensors
from conch.config.validate import violations
from conch.tensor import DataType

START = "kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ]"
END = "kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ]"
CORRID = "kind: CONTROL_SEQUENCE_CORRID"
EITHER = "either 'int32_false_true', 'fp32_false_true' or 'bool_false_true'"
STATE = 'input_name: "S" output_name: "T" data_type: TYPE_INT32 dims: [ 1 ]'


def control(name: str, *kinds: str) -> str:
    listed = ", ".join(f"{{ {kind} }}" for kind in kinds)
    return f'control_input {{ name: "{name}" control [ {listed} ] }}'


def initial(datatype: str, dims: str, data: str = "zero_data: true") -> str:
    return f'state {{ {STATE} initial_state {{ name: "i" data_type: {datatype} dims: [ {dims} ] {data} }} }}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "direct { minimum_slot_utilization: 1.5 }",
            "sequence batching minimum slot utilization must be in range (0.0, 1.0] for m",
        ),
        (
            "oldest { max_candidate_sequences: 1 preferred_batch_size: [ 8 ] }",
            "sequence batching preferred batch size must be <= max batch size for m",
        ),
        (
            "oldest { max_candidate_sequences: 1 preferred_batch_size: [ 0 ] }",
            "sequence batching preferred batch size must be positive for m",
        ),
        (
            "oldest { }",
            "sequence batching needs max_candidate_sequences >= 1 to have a place for a sequence, got 0, for m",
        ),
        (control("", START), "sequence batching control tensor must have a name for m"),
        (control("A"), "sequence batching control tensor 'A' must specify 'control' for m"),
        (
            control("A", "kind: CONTROL_SEQUENCE_START"),
            f"sequence batching must specify {EITHER} for CONTROL_SEQUENCE_START for m",
        ),
        (
            control("A", START + " fp32_false_true: [ 0, 1 ]"),
            "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' and "
            "'bool_false_true' for CONTROL_SEQUENCE_START for m",
        ),
        (
            control("A", "kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0 ]"),
            "sequence batching control 'fp32_false_true' must have exactly 2 entries for CONTROL_SEQUENCE_READY for m",
        ),
        (
            control("A", START) + control("B", START),
            "sequence batching specifies multiple CONTROL_SEQUENCE_START tensors for m",
        ),
        (
            control("A", START) + control("A", END),
            "sequence batching control tensor 'A' is specified for multiple control kinds for m",
        ),
        (
            control("A", START, END),
            "sequence batching control tensor 'A' is specified for multiple control kinds for m",
        ),
        (
            control("A", CORRID),
            "unexpected data type for control CONTROL_SEQUENCE_CORRID for m. Allowed data types are TYPE_UINT64, "
            "TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING",
        ),
        (
            control("A", CORRID + " data_type: TYPE_INT32 int32_false_true: [ 0, 1 ]"),
            f"sequence batching must not specify {EITHER} for CONTROL_SEQUENCE_CORRID for m",
        ),
        (
            control("INPUT", START),
            "sequence batching control tensor 'INPUT' must not be an input of the model as well for m",
        ),
        (
            'state { input_name: "S" data_type: TYPE_INT32 dims: [ 1 ] }',
            "sequence batching state 'S' must specify 'input_name' and 'output_name'",
        ),
        (
            'state { input_name: "S" output_name: "T" dims: [ 1 ] }',
            "sequence batching state 'S' must specify 'data_type' and 'dims'",
        ),
        (
            f"state [ {{ {STATE} }}, {{ {STATE} }} ]",
            "sequence batching state 'S' must have names of its own: 'S' or 'T' is taken",
        ),
        (
            initial("TYPE_FP32", "1"),
            "The data type used for 'initial_state' field of state 'S' does not match the state data type.",
        ),
        (
            initial("TYPE_INT32", "1, 1"),
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state input 'S'. "
            "2 != 1",
        ),
        (
            initial("TYPE_INT32", "2"),
            "'initial_state' dim for input name 'S' doesn't match 'state' dim description. 2 != 1",
        ),
        (initial("TYPE_INT32", "1", ""), "'initial_state' of state 'S' must specify 'zero_data' or 'data_file'"),
    ],
)
def test_a_broken_rule_is_the_only_violation_found(text: str, expected: str) -> None:
    message = pbtxt.parse(
        'name: "m" backend: "python" input { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] } '
        f"sequence_batching {{ {text} }}"
    )
    assert violations(message, complete=False) == [expected]


def test_strategy_controls_and_states_are_read() -> None:
    text = f"""
        name: "m" backend: "python" max_batch_size: 4
        input {{ name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] }}
        output {{ name: "T" data_type: TYPE_INT32 dims: [ 1 ] }}
        sequence_batching {{
          max_sequence_idle_microseconds: 5
          oldest {{ max_candidate_sequences: 3 preferred_batch_size: [ 2 ] preserve_ordering: true }}
          {control("A", START)} {control("B", CORRID + " data_type: TYPE_STRING")}
          {initial("TYPE_INT32", "1", 'data_file: "first"')}
        }}
    """
    config = pbtxt.from_message(pbtxt.parse(text))
    batching = config.sequence_batching
    assert batching is not None
    assert batching.strategy == OldestSequences(3, (2,), 0, preserve_ordering=True)
    assert batching.max_sequence_idle_microseconds == 5
    assert batching.controls == (
        SequenceControl("A", "START", DataType.INT32, (0.0, 1.0)),
        SequenceControl("B", "CORRID", DataType.BYTES),
    )
    assert batching.states == (
        SequenceState("S", "T", DataType.INT32, (1,), InitialState("i", DataType.INT32, (1,), "first")),
    )


def test_a_backend_sees_controls_and_states_among_inputs_and_outputs() -> None:
    text = f"""
        name: "m" backend: "python" max_batch_size: 4
        input {{ name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] }}
        output {{ name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] }}
        sequence_batching {{ {control("A", START)} state {{ {STATE} }} }}
    """
    config = pbtxt.from_message(pbtxt.parse(text))
    executed = with_sequence_tensors(config)
    assert [(spec.name, spec.dims) for spec in executed.input] == [("INPUT", (1,)), ("A", (1,)), ("S", (1,))]
    assert [spec.name for spec in executed.output] == ["OUTPUT", "T"]
    assert executed.message == config.message


def test_direct_is_the_strategy_when_none_is_given() -> None:
    config = pbtxt.from_message(pbtxt.parse('name: "m" backend: "python" sequence_batching { }'))
    assert config.sequence_batching is not None
    assert config.sequence_batching.strategy == DirectSequences()
