"""Takes out of answers what changes from run to run (`normalise`, before an answer is stored), and what conch tells
otherwise everywhere and on purpose (`comparable`, before a stored answer is compared)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .messages import Answer, ConcurrentAnswer, GrpcAnswer, HttpAnswer

#: Metric families of GPUs, which the machine may have or not, and of the response cache as a whole, which Triton shows
#: some time later.
FAMILIES_NOT_COMPARED = re.compile(r"nv_(gpu|energy)_|nv_cache_(?!\w+_per_model)")

#: Samples whose value depends on the machine or the clock.
VOLATILE_SAMPLE = re.compile(
    r"^((?:nv_\w*duration\w*|nv_\w*_summary_\w*(?<!_count)|nv_cpu_\w+|nv_pinned_\w+)(?:\{.*\})?) \S+$"
)

#: The directory of a model that was loaded with files of its own; the server chooses it.
TEMPORARY_MODEL = re.compile(r"(?<![\w>])/(?:[\w.-]+/)+(?=\d+/\w+\.py\()")
IMPORT_FRAME = re.compile(r"  <frozen importlib[^\n]*\n")
INPUTS_THAT_CAME = re.compile(r"(?<=Got input\(s\) \[)[^\]]*")

#: Triton's errors of Python models go on with the frames of the traceback. conch keeps errors to one line; the whole
#: traceback is in its log.
FRAMES = re.compile(r"\n\nAt:\n(?:  [^\n]*\n)+")

#: Where errors stand in JSON: of HTTP, of the repository index, of a stream.
ERROR_FIELDS = ("error", "reason", "error_message")

#: Triton says in its log only why a configuration cannot be read; conch says it in the answer, too.
WHY_NOT_POLLED = re.compile(r"(?<=, failed to poll from model repository): .*", re.DOTALL)


def normalise(answer: Answer, repository: str) -> Answer:
    """`repository` is the directory the server was given; it reads `<REPOSITORY>` afterwards."""
    match answer:
        case HttpAnswer():
            headers = dict(answer.headers)
            if "inference-header-content-length" in headers:
                headers["inference-header-content-length"] = "<LENGTH OF THE JSON>"
            if answer.status >= 400:  # a Triton calls the same JSON text/plain or not, by how far the request got
                headers.pop("content-type", None)
            return msgspec.structs.replace(
                answer,
                headers=headers,
                json=value(answer.json, repository),
                text=text(answer.text, repository),
                lines=metric_lines([text(line, repository) for line in answer.lines]),
                events=value(answer.events, repository),
            )
        case GrpcAnswer():
            return msgspec.structs.replace(
                answer,
                details=text(answer.details, repository),
                messages=[value(message, repository) for message in answer.messages],
            )
        case ConcurrentAnswer():
            return ConcurrentAnswer([normalise(one, repository) for one in answer.answers])  # type: ignore[misc]


def text(words: str, repository: str) -> str:
    """Takes out paths, frames of Python's own import system, and the order of a hash map."""
    words = words.replace(repository, "<REPOSITORY>")
    words = TEMPORARY_MODEL.sub("<TEMPORARY>/", words)
    words = IMPORT_FRAME.sub("", words)
    return INPUTS_THAT_CAME.sub(lambda found: ",".join(sorted(found[0].split(","))), words)


def comparable(answer: Answer) -> Answer:
    """A normalised answer without the differences that would otherwise be in hundreds of error texts."""
    match answer:
        case ConcurrentAnswer():
            return ConcurrentAnswer([comparable(one) for one in answer.answers])  # type: ignore[misc]
        case HttpAnswer():
            return msgspec.structs.replace(
                answer, json=with_short_errors(answer.json), events=with_short_errors(answer.events)
            )
        case GrpcAnswer():
            return msgspec.structs.replace(
                answer, details=short_error(answer.details), messages=with_short_errors(answer.messages)
            )


def with_short_errors(node: Any) -> Any:
    """A JSON value whose errors and reasons end where conch's do."""
    match node:
        case dict():
            return {
                key: short_error(child) if key in ERROR_FIELDS and isinstance(child, str) else with_short_errors(child)
                for key, child in node.items()
            }
        case list():
            return [with_short_errors(child) for child in node]
        case _:
            return node


def short_error(words: str) -> str:
    return WHY_NOT_POLLED.sub("", FRAMES.sub("", words).rstrip("\n"))


def value(node: Any, repository: str) -> Any:
    """A JSON value with its volatile parts replaced."""
    match node:
        case {"extensions": extensions, **rest}:
            return dict.fromkeys(rest, "<SERVER>") | {"extensions": extensions}
        case dict():
            return {key: field(key, child, repository) for key, child in node.items()}
        case list():
            return [value(child, repository) for child in node]
        case str():
            return text(node, repository)
        case _:
            return node


def field(key: str, child: Any, repository: str) -> Any:
    """Durations and points in time keep only whether they are zero (proto3 JSON spells int64 as strings)."""
    if key in ("ns", "last_inference") and isinstance(child, int | str):
        return child if child in (0, "0") else "<SOME>"
    return value(child, repository)


def metric_lines(lines: list[str]) -> list[str]:
    compared = [line for line in lines if subject(line).startswith("nv_")]
    compared = [line for line in compared if not FAMILIES_NOT_COMPARED.match(subject(line))]
    return sorted(VOLATILE_SAMPLE.sub(r"\1 <SOME>", line) for line in compared)


def subject(line: str) -> str:
    """The metric a line of the page is about."""
    return line.removeprefix("# HELP ").removeprefix("# TYPE ")
