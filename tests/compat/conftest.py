"""One server for each server specification of the golden files, started when its first test runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from .compare import differences
from .exchange import play
from .messages import GOLDEN_DIRECTORY, Answer, Concurrent, Exchange, ServerSpec, load_golden
from .normalise import comparable
from .server import RunningServer, StartError, running, spared

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
                exchange.answer if spared(exchange) else answer_to(exchange, server) for exchange in golden.exchanges
            ]
        return replayed[group]

    return answers_of


def answer_to(exchange: Exchange, server: RunningServer) -> Answer:
    """The server's answer; to requests that depend on their timing, the first right one of `ATTEMPTS`."""
    scenario = exchange.scenario
    answer = play(scenario, server.target, server.repository)
    if isinstance(scenario.request, Concurrent):
        for _ in range(ATTEMPTS - 1):
            if not differences(scenario, comparable(exchange.answer), comparable(answer)):
                break
            answer = play(scenario, server.target, server.repository)
    return answer
