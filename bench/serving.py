"""Throughput and latency of inference over the wire, measured by perf_analyzer."""

from __future__ import annotations

import csv
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.processes import CONCH, Server, running
from conch.testing import ModelRepositoryBuilder


class Workload(msgspec.Struct, frozen=True):
    """What is measured.

    Attributes:
        repository: "identity" (made here) or "clip" (given).
        model: the model's name.
        protocol: "http" or "grpc".
        concurrency: closed-loop clients, each a setting of its own.
        generator: further arguments for the load generator; `{repository}` is the repository's path.
    """

    repository: str
    model: str
    protocol: str
    concurrency: tuple[int, ...]
    generator: tuple[str, ...] = ()


WORKLOADS = {
    "identity-http": Workload("identity", "identity", "http", (1, 16, 32)),
    "identity-grpc": Workload("identity", "identity", "grpc", (1, 16, 32)),
    "image-http": Workload("identity", "identity_image", "http", (8,)),
    "image-grpc": Workload("identity", "identity_image", "grpc", (8,)),
    "clip-pipeline": Workload("clip", "clip", "http", (1, 4), ("--input-data", "{repository}/../clip-input.json")),
}


class Bench:
    """Runs workloads on conch and, when there is a command for it, on a peer."""

    def __init__(self, generator: str, peer_command: str | None, scratch: Path, clip: Path | None) -> None:
        self._generator = generator
        self._commands = {"conch": CONCH}
        if peer_command:
            self._commands["triton"] = peer_command
        self._scratch = scratch
        self._clip = clip

    def run(self, name: str, workload: Workload, rounds: int, seconds: float) -> list[dict[str, object]]:
        """One result a concurrency: medians over the rounds for each server, and their ratios."""
        repository = self._repository(workload)
        figures: dict[tuple[str, int], list[tuple[float, float]]] = {}
        servers = []
        try:
            for server_name, command in self._commands.items():
                context = running(server_name, command, repository)
                servers.append((context, context.__enter__()))
            for server in [server for _, server in servers]:
                self._measure(server, workload, workload.concurrency[-1], 1.0)  # warm-up
            for _ in range(rounds):
                for concurrency in workload.concurrency:
                    for _, server in servers:
                        figure = self._measure(server, workload, concurrency, seconds)
                        figures.setdefault((server.name, concurrency), []).append(figure)
        finally:
            for context, _ in reversed(servers):
                context.__exit__(None, None, None)
        return [self._result(name, concurrency, figures) for concurrency in workload.concurrency]

    def _repository(self, workload: Workload) -> Path:
        if workload.repository == "clip":
            assert self._clip is not None
            return self._clip
        builder = ModelRepositoryBuilder(self._scratch / "identity")
        builder.add_identity("identity", dims="[ 16 ]", max_batch_size=64)
        builder.add_identity("identity_image", dims="[ 3, 224, 224 ]", max_batch_size=8)
        return builder.root

    def _measure(self, server: Server, workload: Workload, concurrency: int, seconds: float) -> tuple[float, float]:
        """Requests per second and median latency in microseconds."""
        report = self._scratch / "report.csv"
        report.unlink(missing_ok=True)
        port = server.http if workload.protocol == "http" else server.grpc
        interval_ms = str(round(seconds * 1000 / 3))  # it wants three windows that agree
        command = [self._generator, "-m", workload.model, "-u", f"127.0.0.1:{port}", "-i", workload.protocol]
        command += ["--concurrency-range", str(concurrency), "--measurement-interval", interval_ms]
        command += ["--stability-percentage", "999", "--max-trials", "3", "--percentile", "50", "-f", str(report)]
        command += [argument.format(repository=self._repository(workload)) for argument in workload.generator]
        for _ in range(3):  # now and then perf_analyzer ends without a word
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if report.exists():
                break
        else:
            raise RuntimeError(f"{' '.join(command)} made no report:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
        with report.open() as lines:
            row = next(csv.DictReader(lines))
        return float(row["Inferences/Second"]), float(row["p50 latency"])

    def _result(
        self, name: str, concurrency: int, figures: dict[tuple[str, int], list[tuple[float, float]]]
    ) -> dict[str, object]:
        result: dict[str, object] = {"benchmark": name, "concurrency": concurrency}
        medians = {}
        for server_name in self._commands:
            runs = figures[server_name, concurrency]
            medians[server_name] = tuple(statistics.median(run[i] for run in runs) for i in range(2))
            result[server_name] = {"requests_per_s": medians[server_name][0], "p50_us": medians[server_name][1]}
        if "triton" in medians:
            result["throughput_ratio"] = medians["conch"][0] / medians["triton"][0]
            result["latency_ratio"] = medians["conch"][1] / medians["triton"][1]
        return result


def table(results: Sequence[dict[str, object]]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| benchmark | concurrency | conch req/s | p50 us | triton req/s | p50 us | throughput ratio | latency ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        cells = [str(result["benchmark"]), str(result.get("concurrency", ""))]
        for server in ("conch", "triton"):
            figures = result.get(server)
            if isinstance(figures, dict):
                cells += [f"{figures['requests_per_s']:.0f}", f"{figures['p50_us']:.0f}"]
            else:
                cells += ["", ""]
        for ratio in ("throughput_ratio", "latency_ratio"):
            value = result.get(ratio)
            cells.append(f"{value:.2f}" if isinstance(value, float) else "")
        if "note" in result:
            cells[2] = str(result["note"])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
