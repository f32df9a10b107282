"""Figures as text."""

from __future__ import annotations

from collections.abc import Sequence

from conch.bench.figures import Measurement
from conch.bench.statistics import ModelDelta

#: The load generator itself was short of time when it used this much of a core.
BUSY_CLIENT = 0.8


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def sweep_table(measurements: Sequence[Measurement]) -> str:
    """One line a setting."""
    rates = all(each.setting.rate for each in measurements)
    mixed = not rates and any(each.setting.rate for each in measurements)
    first = "rate" if rates else "load" if mixed else "concurrency"
    rows = [[first, "infer/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "errors", "queue", "compute", "batch", "client"]]
    for each in measurements:
        latency, own = each.latency, each.statistics[0] if each.statistics else None
        times = ["-"] * 4
        if latency is not None:
            times = [milliseconds(ms) for ms in (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms)]
        queue, compute, batch = _shares(each.statistics) if own else ("-", "-", "-")
        cells = [each.setting.label, f"{each.throughput:.1f}", *times, str(each.errors), queue, compute, batch]
        rows.append([*cells, f"{each.client_cpu:.0%}"])
    return align(rows)


def _shares(models: Sequence[ModelDelta]) -> tuple[str, str, str]:
    """Shares of queue and compute in the server's time, and the average batch; an ensemble's steps are added up."""
    own, steps = models[0], models[1:] or models[:1]
    if not own.requests:
        return "-", "-", "-"
    queue, compute = sum(step.queue_ns for step in steps), sum(step.compute_ns for step in steps)
    total = (queue + compute) or 1
    batches = ",".join(f"{step.batch:.1f}" for step in steps if step.executions)
    return f"{queue / total:.0%}", f"{compute / total:.0%}", batches or "-"


def stage_table(models: Sequence[ModelDelta]) -> str:
    """What a request spends where, model by model, in milliseconds."""
    rows = [["model", "requests", "total ms", "queue ms", "input ms", "infer ms", "output ms", "batch", "cache hits"]]
    for model in models:
        times = (model.success_ns, model.queue_ns, model.input_ns, model.infer_ns, model.output_ns)
        looked_up = model.cache_hits + model.cache_misses
        cells = [model.model, str(model.requests), *(milliseconds(model.per_request_ms(total)) for total in times)]
        hits = f"{model.cache_hits / looked_up:.0%}" if looked_up else "-"
        rows.append([*cells, f"{model.batch:.1f}" if model.executions else "-", hits])
    return align(rows)


def notes(measurements: Sequence[Measurement]) -> list[str]:
    """What a reader of the figures should know."""
    found = []
    errors = next((each for each in measurements if each.errors), None)
    if errors is not None:
        found.append(f"errors at {errors.setting.label}: the first was: {errors.first_error}")
    busy = [each.setting.label for each in measurements if each.client_cpu >= BUSY_CLIENT]
    if busy:
        found.append(f"the load generator used a whole core at {', '.join(busy)}: the server may be faster than this")
    late = [each.setting.label for each in measurements if each.requests + each.errors < 0.9 * each.due]
    if late:
        found.append(
            f"the server does not keep up with {', '.join(late)}: the queue grew for as long as it was measured"
        )
    return found


def milliseconds(value: float) -> str:
    """Three digits where they matter."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
