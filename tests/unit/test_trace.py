"""The trace of one request: its context, and its end."""

from __future__ import annotations

from itertools import count

import pytest

from conch.trace import TIMESTAMPS, RequestTrace

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def make(traceparent: str = "", *, has_context: bool = True) -> tuple[RequestTrace, list[RequestTrace]]:
    ended: list[RequestTrace] = []
    trace = RequestTrace(TIMESTAMPS, count(1).__next__, ended.append, traceparent=traceparent, has_context=has_context)
    return trace, ended


def test_the_context_goes_on_with_the_clients_trace() -> None:
    trace, _ = make(TRACEPARENT)
    version, trace_id, span_id, flags = trace.context().split("-")
    assert (version, trace_id, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert len(bytes.fromhex(span_id)) == 8
    assert trace.context() == trace.context()


def test_parts_have_contexts_of_their_own_in_the_same_trace() -> None:
    trace, _ = make()
    inner = trace.part().part()
    outer_ids, inner_ids = trace.context().split("-"), inner.context().split("-")
    assert outer_ids[1] == inner_ids[1] == trace.trace_id
    assert outer_ids[2] != inner_ids[2]


@pytest.mark.parametrize(
    "traceparent",
    [
        "nonsense",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_an_invalid_context_of_the_client_begins_a_new_trace(traceparent: str) -> None:
    trace, _ = make(traceparent)
    trace_id = trace.context().split("-")[1]
    assert len(bytes.fromhex(trace_id)) == 16
    assert trace_id not in traceparent


def test_a_trace_that_goes_nowhere_else_has_no_context() -> None:
    trace, _ = make(TRACEPARENT, has_context=False)
    assert trace.context() == trace.part().context() == ""


def test_an_end_before_that_of_the_execution_waits_for_it() -> None:
    trace, ended = make()
    trace.executing()
    trace.end()
    assert not ended
    trace.executed(10, 40, (1, 2, 3))
    assert ended == [trace]
    assert trace.moments[-1] == ("COMPUTE_END", 40)
