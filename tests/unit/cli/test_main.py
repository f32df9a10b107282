from __future__ import annotations

import subprocess
import sys

import pytest

from conch import __version__
from conch.cli.main import COMMANDS, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"conch {__version__}\n"


def test_no_command_shows_the_usage_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: conch COMMAND" in capsys.readouterr().err


def test_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sreve"]) == 2
    assert "unknown command 'sreve'; did you mean 'serve'?" in capsys.readouterr().err


def test_unknown_flag_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--model-repostory=models"])
    assert caught.value.code == 2
    assert "unknown flag '--model-repostory'; did you mean '--model-repository'?" in capsys.readouterr().err


def test_stray_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "models"])
    assert "conch serve: error: unexpected argument 'models'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "infer", "doctor"])
def test_help_of_a_command_is_shown(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"conch {command}" in capsys.readouterr().out


def test_help_imports_no_library() -> None:
    script = (
        "import sys; from conch.cli.main import main; main(['--help']); "
        "print(sorted({'numpy', 'google.protobuf', 'tritonclient', 'torch', 'conch.app'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


INTERRUPTED = """
import atexit, signal, sys, time
from conch.cli import main, tasks

class Library:
    def __del__(self):
        print("taken apart")

def run(args):
    try:
        print("begun")
        signal.raise_signal(signal.{number})
        time.sleep(60)
    finally:
        print("cleared away")

signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts tests in the background has it ignored
tasks.library = Library()
tasks.run = run
atexit.register(print, "at exit")
sys.argv = ["conch", "tasks"]
sys.exit(main.main())
"""


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_process_that_is_interrupted_clears_away_and_takes_no_library_apart(number: str, code: int) -> None:
    program = INTERRUPTED.format(number=number)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split("\n"), done.stderr) == (
        code,
        ["begun", "cleared away", "at exit", ""],
        "",
    )


def test_a_command_that_a_program_runs_is_terminated_by_an_exception() -> None:
    """In a process of its own: a signal that ends the tests' process takes the other tests with it."""
    program = INTERRUPTED.format(number="SIGTERM").replace("main.main()", 'main.main(["tasks"])')
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, "")
    assert done.stdout.startswith("begun\ncleared away\n")
