"""Tells how an answer differs from the golden one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from .messages import Answer, ConcurrentAnswer, GrpcAnswer, HttpAnswer, Scenario


def differences(scenario: Scenario, golden: Answer, answer: Answer) -> list[str]:
    """One line for each difference, with where it is, what Triton answered and what came."""
    match golden, answer:
        case HttpAnswer(), HttpAnswer():
            return list(http_differences(scenario.loose, golden, answer))
        case GrpcAnswer(), GrpcAnswer():
            return list(grpc_differences(scenario.loose, golden, answer))
        case ConcurrentAnswer(), ConcurrentAnswer():
            pairs = zip(golden.answers, answer.answers, strict=True)
            return [
                f"answer {number}: {line}"
                for number, (expected, came) in enumerate(pairs)
                for line in differences(scenario, expected, came)
            ]
        case _:
            return [f"expected an answer like {golden}, got {answer}"]


def http_differences(loose: list[str], golden: HttpAnswer, answer: HttpAnswer) -> Iterator[str]:
    """Where Triton itself broke down, any answer will do."""
    if answer.failure:
        yield f"no answer: {answer.failure}"
    if golden.failure or answer.failure:
        return
    if golden.status != answer.status:
        yield f"status: Triton {golden.status}, got {answer.status}"
    if "headers" not in loose:
        yield from value_differences("headers", golden.headers, answer.headers, order=False)
    if "body" not in loose:
        order = "order" not in loose
        yield from value_differences("body", golden.json, answer.json, order=order)
        yield from value_differences("text", golden.text, answer.text, order=order)
        yield from value_differences("binary", golden.binary.hex(), answer.binary.hex(), order=order)
        yield from value_differences("events", golden.events, answer.events, order=order)
        yield from line_differences(golden.lines, answer.lines)


def line_differences(golden: list[str], lines: list[str]) -> Iterator[str]:
    """Compares the metric families that Triton has; others may stand beside them."""
    families = {family(line) for line in golden}
    yield from (f"line missing: {line}" for line in golden if line not in lines)
    yield from (f"line unexpected: {line}" for line in lines if line not in golden and family(line) in families)


def family(line: str) -> str:
    """The name of the metric a line of the metrics page is about."""
    return re.split("[ {]", line.removeprefix("# HELP ").removeprefix("# TYPE "), maxsplit=1)[0]


def grpc_differences(loose: list[str], golden: GrpcAnswer, answer: GrpcAnswer) -> Iterator[str]:
    if answer.failure:
        yield f"no answer: {answer.failure}"
    if golden.failure or answer.failure:
        return
    if golden.code != answer.code:
        yield f"code: Triton {golden.code}, got {answer.code} ({answer.details!r})"
    if "details" not in loose:
        yield from value_differences("details", golden.details, answer.details, order=False)
    if "body" not in loose:
        yield from value_differences("messages", golden.messages, answer.messages, order=False)


def value_differences(where: str, golden: Any, value: Any, *, order: bool) -> Iterator[str]:
    """Compares JSON values; numbers count as different when one is whole and the other a float.

    Args:
        order: also compare the order of the keys of objects.
    """
    match golden, value:
        case dict(), dict():
            yield from object_differences(where, golden, value, order=order)
        case list(), list():
            if len(golden) != len(value) and is_keyed(golden) and is_keyed(value):
                yield from object_differences(where, keyed(golden), keyed(value), order=False)
                return
            if len(golden) != len(value):
                yield f"{where}: Triton has {len(golden)} elements, got {len(value)}: {shown(golden)} {shown(value)}"
                return
            for index, pair in enumerate(zip(golden, value, strict=True)):
                yield from value_differences(f"{where}[{index}]", *pair, order=order)
        case _ if type(golden) is not type(value) or golden != value:
            yield f"{where}: Triton {shown(golden)}, got {shown(value)}"


def object_differences(where: str, golden: dict[str, Any], value: dict[str, Any], *, order: bool) -> Iterator[str]:
    for key in golden.keys() - value.keys():
        yield f"{where}: {key!r} missing (Triton {shown(golden[key])})"
    for key in value.keys() - golden.keys():
        yield f"{where}: {key!r} unexpected ({shown(value[key])})"
    if order and golden.keys() == value.keys() and list(golden) != list(value):
        yield f"{where}: keys in the order {list(value)}, Triton's is {list(golden)}"
    for key in golden.keys() & value.keys():
        yield from value_differences(f"{where}.{key}", golden[key], value[key], order=order)


def keyed(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Entries of an index or of statistics by model and version."""
    return {"/".join([entry["name"], *([entry["version"]] if "version" in entry else [])]): entry for entry in entries}


def is_keyed(entries: list[Any]) -> bool:
    """Whether every entry is a model or model version of its own."""
    named = all(isinstance(entry, dict) and "name" in entry for entry in entries)
    return named and len(keyed(entries)) == len(entries)


def shown(value: Any) -> str:
    return "nothing" if value is msgspec.UNSET else repr(value)
