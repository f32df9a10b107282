"""What one request leaves behind on its way: moments with names, tensors, and the requests it is made of.

Requests carry their trace (`InferRequest.trace`, None for those that are not traced), whoever works on them notes the
moment. What becomes of a trace that has ended is the business of who began it.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Sequence

from conch.tensor import Tensor

#: What a trace is to contain; numbered as in `TRITONSERVER_InferenceTraceLevel`.
TIMESTAMPS = 4
TENSORS = 8

#: A W3C trace context: version, trace id, parent id, flags. The version `ff` and ids of zeros are invalid.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


class RequestTrace:
    """One request to one model. Used on the event loop only.

    Attributes:
        level: TIMESTAMPS | TENSORS.
        moments: name and time.monotonic_ns(), in the order in which they were noted.
        tensors: activity (`TENSOR_QUEUE_INPUT`, `TENSOR_BACKEND_OUTPUT`) and tensor.
        parent: the trace of the request that this one is a part of.
        error: what it ended with, "" for success.
        traceparent: the client's W3C trace context, "" for none.
        ends_with_answer: whether it ends with the last response; else who began it ends it, once that was sent.
        has_context: whether it is part of a trace that goes on elsewhere, and so has a context to hand on.
        span_id: the id under which the context was handed on, in hexadecimal digits; "" while it was not.
        trace_id: of a request that is no part: the trace that its contexts were handed on for; "" while none was.
    """

    __slots__ = (
        "_ends_later",
        "_executing",
        "_on_end",
        "_take_id",
        "ended",
        "ends_with_answer",
        "error",
        "has_context",
        "id",
        "level",
        "model_name",
        "model_version",
        "moments",
        "parent",
        "parts",
        "request_id",
        "span_id",
        "tensors",
        "trace_id",
        "traceparent",
    )

    def __init__(
        self,
        level: int,
        take_id: Callable[[], int],
        on_end: Callable[[RequestTrace], None],
        parent: RequestTrace | None = None,
        traceparent: str = "",
        has_context: bool = False,
    ) -> None:
        self._take_id = take_id
        self._on_end = on_end
        self.id = take_id()
        self.level = level
        self.parent = parent
        self.traceparent = traceparent
        self.model_name = ""
        self.model_version = 0
        self.request_id = ""
        self.moments: list[tuple[str, int]] = []
        self.tensors: list[tuple[str, Tensor]] = []
        self.parts: list[RequestTrace] = []
        self.error = ""
        self.ended = False
        self.ends_with_answer = parent is not None
        self.has_context = has_context
        self.span_id = ""
        self.trace_id = ""
        self._executing = False
        self._ends_later = False

    def at(self, name: str, moment_ns: int | None = None) -> None:
        """Note a moment, by default this one."""
        if self.level & TIMESTAMPS:
            self.moments.append((name, time.monotonic_ns() if moment_ns is None else moment_ns))

    def part(self) -> RequestTrace:
        """The trace of a request that this one sends on its own."""
        made = RequestTrace(self.level, self._take_id, self._on_end, self, has_context=self.has_context)
        self.parts.append(made)
        return made

    def begin(self, model_name: str, model_version: int, request_id: str, inputs: Sequence[Tensor]) -> None:
        """A model has accepted the request."""
        self.model_name = model_name
        self.model_version = model_version
        self.request_id = request_id
        self._note("TENSOR_QUEUE_INPUT", inputs)

    def context(self) -> str:
        """The W3C trace context (`traceparent`) of what this request does elsewhere; "" where it has none."""
        if not self.has_context:
            return ""
        first = self
        while first.parent is not None:
            first = first.parent
        if not first.trace_id:
            given = _TRACEPARENT.fullmatch(first.traceparent)
            first.trace_id = given[1] if given else secrets.token_hex(16)
        self.span_id = self.span_id or secrets.token_hex(8)
        return f"00-{first.trace_id}-{self.span_id}-01"

    def executing(self) -> None:
        """It is answered, but its execution has not ended: `executed` will be called, and nobody sees an end before."""
        self._executing = True

    def executed(self, started_ns: int, ended_ns: int, compute: tuple[int, int, int]) -> None:
        """It was executed; `compute` is the time of input, inference and output in ns."""
        self.at("COMPUTE_START", started_ns)
        self.at("COMPUTE_INPUT_END", started_ns + compute[0])
        self.at("COMPUTE_OUTPUT_START", ended_ns - compute[2])
        self.at("COMPUTE_END", ended_ns)
        if self._executing:
            self._executing = False
            self.moments.sort(key=lambda moment: moment[1])
            if self._ends_later:
                self.end()

    def answered(self, outputs: Sequence[Tensor], error: str = "") -> None:
        """The model has answered for the last time; nobody sends on an error."""
        self.error = error
        self._note("TENSOR_BACKEND_OUTPUT", outputs)
        if self.parent is None:
            self.at("INFER_RESPONSE_COMPLETE")
        self.at("REQUEST_END")
        if self.ends_with_answer or error:
            self.end()

    def end(self) -> None:
        """Nothing more comes. Only the first call counts."""
        if self._executing:
            self._ends_later = True
        elif not self.ended:
            self.ended = True
            self._on_end(self)

    def _note(self, activity: str, tensors: Sequence[Tensor]) -> None:
        if self.level & TENSORS:
            self.tensors.extend((activity, tensor) for tensor in tensors)
