"""Traces as OpenTelemetry spans."""

from __future__ import annotations

import sys
import time
from itertools import count
from typing import Any

import pytest

from conch.config.trace_options import TraceOptions
from conch.core.trace_otlp import OtlpSink
from conch.errors import UnavailableError
from conch.trace import TIMESTAMPS, RequestTrace

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def ensemble_request() -> RequestTrace:
    trace = RequestTrace(TIMESTAMPS, count(1).__next__, lambda ended: None, traceparent=TRACEPARENT)
    trace.at("HTTP_RECV_START", 5)
    trace.at("REQUEST_START", 10)
    trace.begin("chain", 1, "r1", ())
    part = trace.part()
    part.at("REQUEST_START", 20)
    part.begin("step", 2, "r1", ())
    part.executed(30, 40, (1, 2, 3))
    part.answered((), "it failed")
    trace.at("REQUEST_END", 60)
    trace.at("HTTP_SEND_END", 70)
    return trace


def test_a_request_is_a_span_with_the_spans_of_its_models_in_it() -> None:
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    options = TraceOptions(mode="opentelemetry", resource={"service.name": "probe"})
    sink = OtlpSink(options, lambda endpoint: exporter)
    sink.write([ensemble_request()], numbered=False)
    sink.close()
    spans: dict[str, Any] = {span.name: span for span in exporter.get_finished_spans()}
    assert list(spans) == ["compute", "step", "chain", "InferRequest"]
    parents = [(spans[child].parent.span_id, spans[parent].context.span_id)
               for child, parent in (("compute", "step"), ("step", "chain"), ("chain", "InferRequest"))]  # fmt: skip
    assert all(told == real for told, real in parents)
    outer = spans["InferRequest"]
    assert format(outer.context.trace_id, "032x") in TRACEPARENT
    assert format(outer.parent.span_id, "016x") in TRACEPARENT
    assert (outer.end_time - outer.start_time) == 65
    assert abs(outer.start_time - time.time_ns() + time.monotonic_ns()) < 100e9
    assert [event.name for event in outer.events] == ["HTTP_RECV_START", "HTTP_SEND_END"]
    assert spans["step"].attributes["triton.trace_parent_id"] == 1
    assert spans["step"].status.description == "it failed"
    assert outer.resource.attributes["service.name"] == "probe"


def test_a_span_has_the_ids_that_were_handed_on_before_it_was_made() -> None:
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    sink = OtlpSink(TraceOptions(mode="opentelemetry"), lambda endpoint: exporter)
    trace = RequestTrace(TIMESTAMPS, count(1).__next__, lambda ended: None, has_context=True)
    trace.at("REQUEST_START", 10)
    trace.begin("outer", 1, "", ())
    part = trace.part()
    part.at("REQUEST_START", 20)
    part.begin("inner", 1, "", ())
    contexts = {"outer": trace.context(), "inner": part.context()}
    part.answered(())
    trace.at("REQUEST_END", 60)
    sink.write([trace], numbered=False)
    sink.close()
    spans: dict[str, Any] = {span.name: span for span in exporter.get_finished_spans()}
    for name, context in contexts.items():
        told = spans[name].context
        assert context == f"00-{told.trace_id:032x}-{told.span_id:016x}-01"
    assert len({span.context.span_id for span in spans.values()}) == 3


def test_a_missing_sdk_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(UnavailableError, match=r"pip install 'conch\[otel\]'"):
        OtlpSink(TraceOptions(mode="opentelemetry"))
