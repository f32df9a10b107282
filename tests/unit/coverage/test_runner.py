"""The runner chooses what to run, keeps what others found, and survives cases that crash or hang."""

# mypy: disable-error-code="no-untyped-call, attr-defined"

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.coverage import __main__ as runner
from tests.coverage.__main__ import Case, run_case, wanted
from tests.coverage.outcome import Deployed, Outcome, write
from tests.serving import wait_until

CASES = {name: Case(name, "task", name) for name in ("one", "two", "three")}
DONE = Outcome("two", "task", "two", Deployed("equal"), Deployed("equal"))


def names(only: list[str], *, resume: bool) -> list[str]:
    return [case.name for case in wanted(CASES, {"two": DONE}, only, resume=resume)]


def test_all_cases_run_unless_some_are_named() -> None:
    assert names([], resume=False) == ["one", "two", "three"]
    assert names(["three", "one"], resume=False) == ["one", "three"]


def test_resumed_run_leaves_out_what_has_an_outcome() -> None:
    assert names([], resume=True) == ["one", "three"]
    assert names(["two"], resume=True) == []


def test_unknown_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--only", "telepathy", "--results", str(tmp_path / "r.json")]) == 2
    assert "telepathy" in capsys.readouterr().err


def test_page_is_made_of_kept_outcomes_when_nothing_is_left_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "every_case", lambda real: {"two": CASES["two"]})
    write(tmp_path / "r.json", {"two": DONE})
    page = tmp_path / "coverage.md"
    assert runner.main(["--resume", "--results", str(tmp_path / "r.json"), "--page", str(page)]) == 0
    assert "| task | two | yes | yes |" in page.read_text()


def test_directories_with_a_configuration_are_cases_of_trained_weights(tmp_path: Path) -> None:
    (tmp_path / "minilm").mkdir()
    (tmp_path / "minilm" / "config.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    found = {name: case for name, case in runner.every_case(tmp_path).items() if case.real}
    assert found == {"minilm": Case("minilm", "", "minilm", tmp_path)}


def stand_in(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let another program stand in for the process of a case; its arguments are those of the case."""
    start = runner.subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        return start([sys.executable, "-c", program, *command[3:]], **options)

    monkeypatch.setattr(runner.subprocess, "Popen", popen)


def test_case_that_crashes_becomes_a_row_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "import sys; print('first'); sys.exit('out of memory')")
    found = run_case(CASES["one"], limit_s=60)
    assert (found.name, found.pipeline.state) == ("one", "failed")
    assert found.pipeline.reason == "the process ended with 1: out of memory"


def test_case_that_hangs_is_ended_with_what_it_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    child = "import subprocess,sys,time; p=subprocess.Popen([sys.executable,'-c','import time; time.sleep(60)']); "
    stand_in(monkeypatch, f"{child} open({str(mark)!r},'w').write(str(p.pid)); print('waiting', flush=True); p.wait()")
    for limit_s in (2, 10, 40):  # a busy machine needs longer to start it
        found = run_case(CASES["one"], limit_s)
        if mark.exists() and "waiting" in found.ensemble.reason:
            break
    assert found.ensemble.reason == f"it took more than {limit_s} s: waiting"
    status = Path(f"/proc/{mark.read_text()}/stat")
    wait_until(lambda: has_ended(status))


def has_ended(status: Path) -> bool:
    """Whether the process with that file in /proc is gone or waits for its parent to take note."""
    try:
        return status.read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_case_s_outcome_is_taken_from_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    text = msgspec.json.encode(DONE).decode()
    stand_in(monkeypatch, f"import sys; open(sys.argv[3], 'w').write({text!r})")
    assert run_case(CASES["two"], limit_s=60) == DONE


def test_case_that_dies_half_way_keeps_what_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    text = msgspec.json.encode(DONE).decode()
    stand_in(monkeypatch, f"import os, sys; open(sys.argv[3], 'w').write({text!r}); os.abort()")
    found = run_case(CASES["two"], limit_s=60)
    assert (found.pipeline.state, found.ensemble.state) == ("equal", "failed")
    assert found.ensemble.reason.startswith("the process ended with -6")
