"""A comparison as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from conch.bench.comparison import Column, Figures
from conch.bench.report import align, milliseconds
from conch.bench.stages import KINDS


def tell(columns: Sequence[Column]) -> str:
    """Tables and advice; the first column is what the others are compared with."""
    parts = [align(list(_rows(columns)))]
    walks = list(_stage_rows(columns))
    if len(walks) > 1:
        label = columns[0].figures[-1].setting.label
        parts.append(f"share of each stage in a request, at {label}:\n{align(walks)}")
    for column in columns[1:]:
        parts.append(f"largest difference of {column.label} from {columns[0].label}:\n{_difference_table(column)}")
    parts.append("tune first:")
    parts[-1] += "".join(f"\n  {column.label}: {text}" for column in columns for text in column.advice)
    return "\n\n".join(parts)


def _rows(columns: Sequence[Column]) -> Iterator[list[str]]:
    yield ["", *(column.label for column in columns)]
    yield ["start-up", *(f"{column.startup_s:.1f} s" for column in columns)]
    yield ["resident memory", *(_megabytes(column.memory.rss_bytes) for column in columns)]
    if all(column.memory.pss_bytes for column in columns):
        yield ["  shared pages once", *(_megabytes(column.memory.pss_bytes) for column in columns)]
    for at, figures in enumerate(columns[0].figures):
        kind = "concurrency" if figures.setting.concurrency else "rate"
        settings = [column.figures[at] for column in columns]
        base = settings[0]
        yield [f"{kind} {figures.setting.label}: infer/s", *(_ratio(each, base) for each in settings)]
        yield ["  p50 ms", *(_time(each.p50_ms) for each in settings)]
        yield ["  p99 ms", *(_time(each.p99_ms) for each in settings)]
        yield ["  CPU ms an inference", *(milliseconds(each.cpu_ms) for each in settings)]
        if any(each.errors for each in settings):
            yield ["  errors", *(str(each.errors) for each in settings)]


def _ratio(figures: Figures, base: Figures) -> str:
    text = f"{figures.throughput:.1f}"
    if figures is base or not base.throughput:
        return text
    return f"{text} ({figures.throughput / base.throughput:.2f}x)"


def _time(value: float | None) -> str:
    return "-" if value is None else milliseconds(value)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"


def _stage_rows(columns: Sequence[Column]) -> Iterator[list[str]]:
    walks = [column.figures[-1].walk for column in columns]
    yield ["", *(column.label for column in columns)]
    for kind in KINDS:
        cells = []
        for walk in walks:
            share = walk.share(kind) if walk else 0.0
            spent = walk.spent_ms()[kind] if walk else 0.0
            cells.append(f"{share:.0%} {milliseconds(spent)} ms" if spent else "-")
        if any(cell != "-" for cell in cells):
            yield [kind, *cells]


def _difference_table(column: Column) -> str:
    rows = [["  output", "absolute", "relative", ""]]
    for each in column.differences:
        rows.append([f"  {each.output}", f"{each.largest:.2g}", f"{each.relative:.2g}", each.note])
    return align(rows)


def document(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """For `--json`: infinite differences become null."""
    found: list[dict[str, Any]] = []
    for column in columns:
        entry: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(column))
        for figures, own in zip(entry["figures"], column.figures, strict=True):
            if own.walk is not None:
                figures["stages"] = {
                    kind: {"ms": ms, "share": own.walk.share(kind)} for kind, ms in own.walk.spent_ms().items()
                }
        found.append(entry)
    return found
