"""Which requests are traced, and what becomes of their traces: the settings that clients may read and change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Protocol

import msgspec

from conch.config.trace_options import TraceOptions
from conch.errors import InvalidArgumentError
from conch.inference import InferRequest
from conch.trace import RequestTrace

#: Traces that are kept in memory before they are written, where no frequency is set.
_KEPT_TRACES = 1000


class TraceSink(Protocol):
    """Where the traces of clients' requests go, each with its parts."""

    def write(self, traces: Sequence[RequestTrace], numbered: bool) -> None:
        """Take traces that have ended; `numbered`: they make a file of their own, where there are files."""
        ...

    def close(self) -> None:
        """Write what is still held; may block for seconds, and be called in any thread."""
        ...


class TraceSettings(msgspec.Struct, frozen=True):
    """What holds for a model: TIMESTAMPS | TENSORS, one request in `rate`, `count` more of them (-1: no limit)."""

    level: int
    rate: int
    count: int
    log_frequency: int


class _Sampler:
    """Chooses requests by one set of settings, and keeps their traces until they are to be written."""

    def __init__(self, settings: TraceSettings, sink: TraceSink | None, at_once: bool) -> None:
        self.settings = settings
        self.left = settings.count
        self._sink = sink
        self._at_once = at_once
        self._seen = 0
        self._open = 0
        self._retired = False
        self._ended: list[RequestTrace] = []

    def sample(self, ids: count[int], traceparent: str) -> RequestTrace | None:
        settings = self.settings
        if not settings.level or not self.left:
            return None
        self._seen += 1
        # A client whose own trace goes through here wants to see this part of it, whatever the rate.
        if self._seen % settings.rate and not (traceparent and self._at_once):
            return None
        if self.left > 0:
            self.left -= 1
        self._open += 1
        return RequestTrace(
            settings.level, ids.__next__, self._on_end, traceparent=traceparent, has_context=self._at_once
        )

    def retire(self) -> None:
        """Other settings hold from now on; requests under way are still taken in."""
        self._retired = True
        self._write(numbered=bool(self.settings.log_frequency))

    def _on_end(self, trace: RequestTrace) -> None:
        if trace.parent is not None:
            return
        self._open -= 1
        self._ended.append(trace)
        frequency = self.settings.log_frequency
        if self._at_once:
            self._write(numbered=False)
        elif (frequency and len(self._ended) >= frequency) or (not self.left and not self._open):
            self._write(numbered=True)
        elif self._retired or len(self._ended) >= _KEPT_TRACES:
            self._write(numbered=bool(frequency))

    def _write(self, numbered: bool) -> None:
        if self._ended and self._sink is not None:
            self._sink.write(self._ended, numbered)
        self._ended = []


class Tracing:
    """Samples requests, for the whole server and model by model. Used on the event loop only.

    Args:
        sink: where traces go; None drops them.

    Attributes:
        options: what the command line asked for.
        active: whether any request can be traced. Whoever sees False need not ask further: tracing that is off costs
            this one look.
    """

    def __init__(self, options: TraceOptions | None = None, sink: TraceSink | None = None) -> None:
        self.options = options or TraceOptions()
        self._sink = sink
        self._ids = count(1)
        first = self.options
        self._defaults = {
            "level": first.level,
            "rate": first.rate,
            "count": first.count,
            "log_frequency": first.log_frequency,
        }
        self._changes: dict[str, int] = {}
        self._model_changes: dict[str, dict[str, int]] = {}
        self._sampler = self._make(TraceSettings(**self._defaults))
        self._samplers: dict[str, _Sampler] = {}
        self.active = bool(first.level)

    def sample(self, model_name: str, traceparent: str = "") -> RequestTrace | None:
        """The trace of a request to that model that has just come; None when it is not to be traced.

        Who asks has to `end` the trace once the answer was sent.
        """
        return self._samplers.get(model_name, self._sampler).sample(self._ids, traceparent)

    def begin(self, request: InferRequest, traceparent: str = "") -> InferRequest:
        """The request with a trace that ends with its last response, or as it is when it is not to be traced."""
        trace = self.sample(request.model_name, traceparent)
        if trace is None:
            return request
        trace.ends_with_answer = True
        return msgspec.structs.replace(request, trace=trace)

    def settings(self, model_name: str = "") -> TraceSettings:
        """What holds for that model, or for those without settings of their own; `count` is what is left of it."""
        sampler = self._samplers.get(model_name, self._sampler)
        return msgspec.structs.replace(sampler.settings, count=sampler.left)

    def update(self, changes: Mapping[str, int | None], model_name: str = "") -> TraceSettings:
        """Change settings, named as the fields of `TraceSettings`, of one model or of all others.

        Args:
            changes: None goes back: of a model to the server's setting, of the server to the command line's.

        Raises:
            InvalidArgumentError: nothing could be traced that way; nothing is changed.
        """
        own = dict(self._model_changes.get(model_name, {}) if model_name else self._changes)
        for name, value in changes.items():
            own.pop(name, None)
            if value is not None:
                own[name] = value
        base = self._defaults | self._changes if model_name else self._defaults
        self._check(TraceSettings(**(base | own)))
        if model_name:
            self._model_changes[model_name] = own
        else:
            self._changes = own
        self._apply()
        return self.settings(model_name)

    async def close(self) -> None:
        """Write what was collected."""
        for sampler in (self._sampler, *self._samplers.values()):
            sampler.retire()
        self.active = False
        if self._sink is None:
            return
        try:
            closing = asyncio.get_running_loop().run_in_executor(None, self._sink.close)
        except RuntimeError:  # the interpreter is ending and lends no thread any more: nobody else is kept waiting
            self._sink.close()
        else:
            await closing

    def _check(self, settings: TraceSettings) -> None:
        problem = ""
        if settings.level and not settings.rate:
            problem = "sample rate must be non-zero"
        elif settings.level and self.options.mode == "triton" and not self.options.file:
            problem = "trace file name is not given"
        if problem:
            raise InvalidArgumentError(f"Attempting to set invalid trace setting :{problem}")

    def _apply(self) -> None:
        """Make the samplers fit the settings; those that fit already go on counting."""
        everyone = self._defaults | self._changes
        self._sampler = self._fitted(self._sampler, everyone)
        former, self._samplers = self._samplers, {}
        for name, own in self._model_changes.items():
            if own:
                self._samplers[name] = self._fitted(former.pop(name, None), everyone | own)
        for sampler in former.values():
            sampler.retire()
        self.active = any(each.settings.level for each in (self._sampler, *self._samplers.values()))

    def _fitted(self, sampler: _Sampler | None, fields: Mapping[str, int]) -> _Sampler:
        settings = TraceSettings(**fields)
        if sampler is not None and sampler.settings == settings:
            return sampler
        if sampler is not None:
            sampler.retire()
        return self._make(settings)

    def _make(self, settings: TraceSettings) -> _Sampler:
        return _Sampler(settings, self._sink, at_once=self.options.mode == "opentelemetry")
