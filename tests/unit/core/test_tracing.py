"""Which requests are traced, and when their traces are written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from conch.config.trace_options import TraceOptions, parse_trace_config
from conch.core.tracing import TraceSettings, Tracing
from conch.errors import InvalidArgumentError
from conch.inference import InferRequest
from conch.trace import TENSORS, TIMESTAMPS, RequestTrace

ON = TraceOptions(level=TIMESTAMPS, rate=1, file="traces.json")


class Kept:
    """A sink that keeps what it is given: the ids of each write."""

    def __init__(self) -> None:
        self.written: list[tuple[list[int], bool]] = []
        self.closed = False

    def write(self, traces: Sequence[RequestTrace], numbered: bool) -> None:
        self.written.append(([trace.id for trace in traces], numbered))

    def close(self) -> None:
        self.closed = True


def replaced(**fields: int) -> TraceOptions:
    return TraceOptions(level=TIMESTAMPS, file="traces.json", **({"rate": 1} | fields))


def trace_some(tracing: Tracing, count: int, model: str = "m") -> int:
    """How many of so many requests were traced; every trace is ended."""
    traces = [trace for _ in range(count) if (trace := tracing.sample(model)) is not None]
    for trace in traces:
        trace.end()
    return len(traces)


def test_tracing_that_is_off_traces_nothing() -> None:
    tracing = Tracing()
    assert not tracing.active
    assert trace_some(tracing, 5) == 0
    request = InferRequest("m", "", ())
    assert tracing.begin(request) is request


def test_every_nth_request_is_traced() -> None:
    tracing = Tracing(replaced(rate=3), Kept())
    assert [tracing.sample("m") is not None for _ in range(7)] == [False, False, True, False, False, True, False]


def test_no_more_requests_are_traced_than_the_count_allows_and_what_is_left_of_it_is_told() -> None:
    kept = Kept()
    tracing = Tracing(replaced(count=2), kept)
    assert tracing.sample("m") is not None
    assert tracing.settings().count == 1
    assert trace_some(tracing, 5) == 1
    assert tracing.settings().count == 0


def test_traces_are_written_to_a_numbered_file_when_the_count_is_used_up() -> None:
    kept = Kept()
    assert trace_some(Tracing(replaced(count=2), kept), 4) == 2
    assert kept.written == [([1, 2], True)]


def test_traces_are_written_whenever_so_many_have_ended() -> None:
    kept = Kept()
    tracing = Tracing(replaced(log_frequency=2), kept)
    trace_some(tracing, 5)
    assert kept.written == [([1, 2], True), ([3, 4], True)]
    asyncio.run(tracing.close())
    assert kept.written[2:] == [([5], True)]
    assert kept.closed


def test_traces_without_a_frequency_are_written_at_the_end() -> None:
    kept = Kept()
    tracing = Tracing(ON, kept)
    trace_some(tracing, 3)
    assert kept.written == []
    asyncio.run(tracing.close())
    assert kept.written == [([1, 2, 3], False)]


def test_settings_of_a_model_win_and_go_back_to_the_servers() -> None:
    tracing = Tracing(ON, Kept())
    tracing.update({"level": 0}, "m")
    assert (trace_some(tracing, 2, "m"), trace_some(tracing, 2, "other")) == (0, 2)
    tracing.update({"rate": 7})
    assert tracing.settings("m") == TraceSettings(0, 7, -1, 0)
    tracing.update({"level": None}, "m")
    assert tracing.settings("m") == TraceSettings(TIMESTAMPS, 7, -1, 0)
    tracing.update({"rate": None})
    assert tracing.settings() == TraceSettings(TIMESTAMPS, 1, -1, 0)


def test_tracing_is_active_as_long_as_one_model_is_traced() -> None:
    tracing = Tracing(TraceOptions(file="traces.json"), Kept())
    tracing.update({"level": TENSORS}, "m")
    assert tracing.active
    tracing.update({"level": None}, "m")
    assert not tracing.active


def test_a_request_under_way_is_written_although_the_settings_changed() -> None:
    kept = Kept()
    tracing = Tracing(ON, kept)
    trace = tracing.sample("m")
    assert trace is not None
    tracing.update({"level": 0})
    trace.end()
    trace.end()
    assert kept.written == [([1], False)]


@pytest.mark.parametrize(
    ("options", "changes", "problem"),
    [
        (ON, {"rate": 0}, "sample rate must be non-zero"),
        (TraceOptions(), {"level": TIMESTAMPS}, "trace file name is not given"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_change_nothing(
    options: TraceOptions, changes: dict[str, int | None], problem: str
) -> None:
    tracing = Tracing(options)
    before = tracing.settings()
    with pytest.raises(InvalidArgumentError, match=problem):
        tracing.update(changes)
    assert tracing.settings() == before


def test_a_client_with_a_trace_of_its_own_is_always_followed_by_opentelemetry() -> None:
    tracing = Tracing(TraceOptions(mode="opentelemetry", level=TIMESTAMPS, rate=1000), Kept())
    assert tracing.sample("m") is None
    followed = tracing.sample("m", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    assert followed is not None and followed.traceparent.startswith("00-0af7")


def test_the_command_lines_texts_are_read() -> None:
    texts = ["triton,file=f.json", "triton,log-frequency=5", "level=TIMESTAMPS", "level=TENSORS", "rate=2", "count=3"]
    assert parse_trace_config(texts) == TraceOptions(
        level=TIMESTAMPS | TENSORS, rate=2, count=3, file="f.json", log_frequency=5
    )
    otel = ["mode=opentelemetry", "opentelemetry,url=http://c/v1", "opentelemetry,resource=service.name=x"]
    assert parse_trace_config([*otel, "opentelemetry,bsp_schedule_delay=10"]) == TraceOptions(
        mode="opentelemetry", url="http://c/v1", resource={"service.name": "x"}, batch={"schedule_delay_millis": 10}
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rate", "expects <setting>=<value>"),
        ("jaeger,file=x", "with mode triton or opentelemetry, got 'jaeger,file=x'"),
        ("level=MAX", "level must be OFF, TIMESTAMPS or TENSORS, got 'MAX'"),
        ("rate=0", "expects an integer >= 1 in 'rate=0'"),
        ("count=x", "expects an integer >= -1"),
        ("mode=zipkin", "mode must be triton or opentelemetry"),
        ("triton,colour=red", "there is no setting 'colour'"),
        ("level=TIMESTAMPS", "needs a file: triton,file=<path>"),
    ],
)
def test_wrong_texts_are_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgumentError, match=problem):
        parse_trace_config([text])
