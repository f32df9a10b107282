"""What log lines look like, and which are written."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from conch.core.api import LogSettings
from conch.core.log_settings import LogControl, LogFile, LogFormatter
from conch.errors import InvalidArgumentError


def control(log_format: str = "default", verbose: int = 0) -> LogControl:
    return LogControl(LogSettings("", True, True, True, verbose, log_format))


def record(level: int = logging.INFO, message: str = "ready", **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("conch.core.x", level, "/a/b/file.py", 7, message, (), None)
    vars(made).update(extra)
    return made


@pytest.mark.parametrize(
    ("log_format", "pattern"),
    [
        ("default", r'W\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ file\.py:7\] "m_0: ready"'),
        ("ISO8601", r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ W \d+ file\.py:7\] "m_0: ready"'),
    ],
)
def test_lines_have_tritons_formats(log_format: str, pattern: str) -> None:
    line = LogFormatter(control(log_format)).format(record(logging.WARNING, instance="m_0"))
    assert re.fullmatch(pattern, line)


def test_json_lines_tell_the_instance_and_the_request() -> None:
    line = LogFormatter(control("json")).format(record(logging.DEBUG, 'a "ä"\nb', instance="m_0", request_id="r1"))
    assert "\n" not in line
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", told.pop("time"))
    assert isinstance(told.pop("process"), int)
    assert told == {
        "level": "VERBOSE",
        "message": 'a "ä"\nb',
        "logger": "conch.core.x",
        "file": "file.py",
        "line": 7,
        "instance": "m_0",
        "request_id": "r1",
    }


def test_json_lines_hold_their_traceback() -> None:
    failed = record(logging.ERROR)
    try:
        raise RuntimeError("no")
    except RuntimeError:
        failed.exc_info = sys.exc_info()
    told = json.loads(LogFormatter(control("json")).format(failed))
    assert told["level"] == "ERROR"
    assert told["traceback"].endswith("RuntimeError: no")


def test_the_format_changes_while_the_server_runs() -> None:
    own = control()
    formatter = LogFormatter(own)
    own.update({"log_format": "json"})
    assert json.loads(formatter.format(record()))["message"] == "ready"
    with pytest.raises(InvalidArgumentError, match="invalid argument for log_format, got: xml"):
        own.update({"log_format": "xml"})


def test_verbose_records_pass_only_when_asked_for() -> None:
    assert not control().lets_pass(record(logging.DEBUG))
    assert control(verbose=1).lets_pass(record(logging.DEBUG))


def test_what_a_full_disk_does_not_take_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    log = LogFile("/dev/full")
    log.setFormatter(LogFormatter(control()))
    for message in ("first", "second"):
        log.handle(record(message=message))
    log.close()
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "cannot write to --log-file /dev/full: No space left on device; what it lacks follows here"
    assert [line.rpartition("] ")[2] for line in told[1:]] == ['"first"', '"second"']


def test_a_record_that_cannot_be_formatted_is_no_matter_of_the_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = LogFile(tmp_path / "log")
    log.handle(logging.LogRecord("conch", logging.INFO, "/a.py", 1, "%d", ("x",), None))
    log.close()
    assert "%d format: a real number is required" in capsys.readouterr().err
