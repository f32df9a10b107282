"""Records the golden files from a real Triton.

    COMPAT_SERVER='tritonserver --model-repository={repository} --http-port={http} --grpc-port={grpc} \
        --metrics-port={metrics}' python -m tests.compat.record [GROUP ...]

Run it from the root of the checkout; without groups all are recorded.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import tempfile
from pathlib import Path

from .exchange import Target, play, send
from .messages import (
    GOLDEN_DIRECTORY,
    Answer,
    Exchange,
    Golden,
    Group,
    GrpcAnswer,
    HttpAnswer,
    HttpRequest,
    Scenario,
    ServerSpec,
    save_golden,
)
from .scenarios import GROUPS
from .server import RunningServer, running

DEATH = "the server died"


def server_name(target: Target) -> str:
    """Name and version as the server's metadata tells them."""
    answer = send(HttpRequest("GET", "/v2"), target)
    assert isinstance(answer, HttpAnswer)
    return f"{answer.json['name']} {answer.json['version']}"


class Recorder:
    """Plays scenarios to one server, and starts it anew after a scenario that ended it."""

    def __init__(self, spec: ServerSpec, cleanup: contextlib.ExitStack) -> None:
        self.spec = spec
        self.cleanup = cleanup
        self.server = self.start()
        self.recorded_from = server_name(self.server.target)

    def start(self) -> RunningServer:
        directory = self.cleanup.enter_context(tempfile.TemporaryDirectory())
        return self.cleanup.enter_context(running(self.spec, Path(directory)))

    def record(self, group: Group) -> Golden:
        return Golden(self.recorded_from, self.spec, [self.exchange(scenario) for scenario in group.scenarios])

    def exchange(self, scenario: Scenario) -> Exchange:
        answer = play(scenario, self.server.target, self.server.repository)
        if broke_down(answer) and self.server.died():
            print(f"the server died of {scenario.name!r}; starting it anew")
            self.server = self.start()
            over_grpc = isinstance(answer, GrpcAnswer)
            answer = GrpcAnswer(failure=DEATH) if over_grpc else HttpAnswer(failure=DEATH)
        return Exchange(scenario, answer)


def broke_down(answer: Answer) -> bool:
    """Whether there is no answer, or one that may be the client library's own."""
    match answer:
        case HttpAnswer():
            return answer.failure != ""
        case GrpcAnswer():
            return answer.code in ("UNAVAILABLE", "UNKNOWN", "CANCELLED")
        case _:
            return False


def record(spec: ServerSpec, groups: list[Group]) -> None:
    """Records the golden files of all groups of one server."""
    with contextlib.ExitStack() as cleanup:
        recorder = Recorder(spec, cleanup)
        for group in groups:
            golden = recorder.record(group)
            path = GOLDEN_DIRECTORY / f"{group.name}.json"
            save_golden(golden, path)
            print(f"{path.name}: {len(golden.exchanges)} exchanges")


def main() -> None:
    parser = argparse.ArgumentParser(description="Record golden traffic from a real Triton.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="the groups to record; all of them if none is named")
    wanted = parser.parse_args().groups
    if "COMPAT_SERVER" not in os.environ:
        parser.error("COMPAT_SERVER must say how to start the Triton to record from (see the head of this file)")
    groups = [group for group in GROUPS if not wanted or group.name in wanted]
    for spec, of_server in itertools.groupby(groups, key=lambda group: group.server):
        record(spec, list(of_server))


if __name__ == "__main__":
    main()
