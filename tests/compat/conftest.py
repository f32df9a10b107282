"""One server for each server specification of the golden files, started when its first test runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from .exchange import SETTLE_TIMEOUT_S, play
from .messages import GOLDEN_DIRECTORY, Answer, Concurrent, Exchange, ServerSpec, load_golden
from .server import RunningServer, StartError, running, spared
from .verdict import unexplained

#: How often requests sent at set moments are tried: on a busy machine one may come too late for its part.
ATTEMPTS = 3

StartServer = Callable[[ServerSpec], RunningServer]


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts a server of a specification, and tries that once; the server before it is stopped first."""
    current: dict[ServerSpec, RunningServer] = {}
    with contextlib.ExitStack() as cleanup:
        failed: dict[ServerSpec, str] = {}

        def start(spec: ServerSpec) -> RunningServer:
            if spec in failed:
                raise StartError(failed[spec])
            if spec not in current:
                cleanup.close()
                current.clear()
                try:
                    current[spec] = cleanup.enter_context(running(spec, tmp_path_factory.mktemp(spec.name)))
                except StartError as error:
                    failed[spec] = str(error)
                    raise
            return current[spec]

        yield start


@pytest.fixture(scope="session")
def replay(start_server: StartServer) -> Callable[[str], list[Answer]]:
    """Sends all scenarios of a golden file in their recorded order, once, and gives the answers."""
    replayed: dict[str, list[Answer]] = {}

    def answers_of(group: str) -> list[Answer]:
        if group not in replayed:
            golden = load_golden(GOLDEN_DIRECTORY / f"{group}.json")
            server = start_server(golden.server)
            replayed[group] = [
                exchange.answer if spared(exchange) else answer_to(group, exchange, server)
                for exchange in golden.exchanges
            ]
        return replayed[group]

    return answers_of


def answer_to(group: str, exchange: Exchange, server: RunningServer) -> Answer:
    """The server's answer; to requests that depend on their timing, the first right one of `ATTEMPTS`, and of what
    changes for a moment after a response, the first right one within `SETTLE_TIMEOUT_S`."""
    scenario = exchange.scenario
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    attempts = ATTEMPTS if isinstance(scenario.request, Concurrent) else 1
    while True:
        answer = play(scenario, server.target, server.repository)
        attempts -= 1
        late = not scenario.settle or time.monotonic() > deadline
        if not unexplained(group, exchange, answer) or (attempts < 1 and late):
            return answer
