"""Traces as OpenTelemetry spans, sent over OTLP/HTTP by the official SDK: the only importer of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from conch.config.trace_options import TraceOptions
from conch.errors import UnavailableError
from conch.trace import RequestTrace

#: How long one export may take, retries included; a collector that is away delays the end of the server by that.
_EXPORT_S = 5.0


_SPAN_MOMENTS = ("REQUEST_START", "QUEUE_START", "REQUEST_END")
_COMPUTE_MOMENTS = ("COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END")


class _GivenIds:
    """An `IdGenerator` of the SDK: random ids, but for the spans whose ids models have handed on already.

    Attributes:
        span_id: of the next span; 0 for a random one.
        trace_id: of the next span if it has no parent; 0 for a random one.
    """

    def __init__(self, generator: Any) -> None:
        self._random = generator
        self.span_id = 0
        self.trace_id = 0

    def generate_span_id(self) -> int:
        given, self.span_id = self.span_id, 0
        return given or int(self._random.generate_span_id())

    def generate_trace_id(self) -> int:
        given, self.trace_id = self.trace_id, 0
        return given or int(self._random.generate_trace_id())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._random, name)


class OtlpSink:
    """Implements `conch.core.tracing.TraceSink`. The SDK sends in a thread of its own.

    A client's request is a span `InferRequest` with a span named as the model in it, which has one named `compute` and
    the spans of the requests that it is made of.

    Args:
        make_exporter: makes the SDK's exporter to a URL; None for OTLP over HTTP.

    Raises:
        UnavailableError: the SDK is not installed.
    """

    def __init__(self, options: TraceOptions, make_exporter: Callable[..., Any] | None = None) -> None:
        try:
            from opentelemetry import trace as api
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            if make_exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                make_exporter = partial(OTLPSpanExporter, timeout=_EXPORT_S)
        except ImportError as error:
            raise UnavailableError(
                f"tracing in mode opentelemetry needs the OpenTelemetry SDK ({error}); try: pip install 'conch[otel]'"
            ) from error
        self._api = api
        self._propagator = TraceContextTextMapPropagator()
        resource = Resource.create({"service.name": "conch", **options.resource})
        self._ids = _GivenIds(RandomIdGenerator())
        generator: Any = self._ids
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=generator)
        batch: dict[str, Any] = dict(options.batch)
        self._provider.add_span_processor(BatchSpanProcessor(make_exporter(endpoint=options.url), **batch))
        self._tracer = self._provider.get_tracer("conch")

    def write(self, traces: Sequence[RequestTrace], numbered: bool) -> None:
        """Hand the spans of these traces to the SDK."""
        offset_ns = time.time_ns() - time.monotonic_ns()
        for trace in traces:
            if trace.moments:
                self._write_request(trace, offset_ns)

    def close(self) -> None:
        """Send what is still held."""
        self._provider.shutdown()

    def _write_request(self, trace: RequestTrace, offset_ns: int) -> None:
        context = self._propagator.extract({"traceparent": trace.traceparent}) if trace.traceparent else None
        inner = {*_SPAN_MOMENTS, *_COMPUTE_MOMENTS}
        outer = [(name, moment_ns) for name, moment_ns in trace.moments if name not in inner]
        times = [moment_ns for _, moment_ns in trace.moments]
        self._ids.trace_id = int(trace.trace_id or "0", 16)
        span = self._span("InferRequest", context, outer, (min(times), max(times)), offset_ns)
        self._write_model(trace, self._api.set_span_in_context(span), offset_ns)
        self._finish(span, trace, max(times) + offset_ns)

    def _write_model(self, trace: RequestTrace, context: Any, offset_ns: int) -> None:
        moments = dict(trace.moments)
        if "REQUEST_START" not in moments:  # refused before a model had it
            return
        between = (moments["REQUEST_START"], moments.get("REQUEST_END", trace.moments[-1][1]))
        own = [(name, moments[name]) for name in _SPAN_MOMENTS if name in moments]
        self._ids.span_id = int(trace.span_id or "0", 16)
        span = self._span(trace.model_name, context, own, between, offset_ns)
        span.set_attributes(
            {
                "triton.model_name": trace.model_name,
                "triton.model_version": trace.model_version,
                "triton.trace_id": trace.id,
                "triton.trace_parent_id": trace.parent.id if trace.parent is not None else 0,
                "triton.request_id": trace.request_id,
            }
        )
        inside = self._api.set_span_in_context(span)
        compute = [(name, moments[name]) for name in _COMPUTE_MOMENTS if name in moments]
        if compute:
            computing = self._span("compute", inside, compute, (compute[0][1], compute[-1][1]), offset_ns)
            computing.end(compute[-1][1] + offset_ns)
        for part in trace.parts:
            self._write_model(part, inside, offset_ns)
        self._finish(span, trace, between[1] + offset_ns)

    def _span(
        self, name: str, context: Any, moments: Sequence[tuple[str, int]], between: tuple[int, int], offset_ns: int
    ) -> Any:
        span = self._tracer.start_span(name, context, kind=self._api.SpanKind.SERVER, start_time=between[0] + offset_ns)
        for event, moment_ns in moments:
            span.add_event(event, timestamp=moment_ns + offset_ns)
        return span

    def _finish(self, span: Any, trace: RequestTrace, end_ns: int) -> None:
        if trace.error:
            span.set_status(self._api.StatusCode.ERROR, trace.error)
        span.end(end_ns)
