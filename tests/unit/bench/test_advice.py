from __future__ import annotations

from typing import Any

import pytest

from conch.bench.advice import Profile, advise
from conch.bench.stages import Stage, Walk
from conch.bench.target import Target


def profile(*stages: Stage, wire_ms: float = 0.0, targets: tuple[Target, ...] = (), **fields: Any) -> Profile:
    total = sum(stage.compute_ms + stage.queue_ms for stage in stages) + wire_ms
    known = {"concurrency": 8, "busy": 0.5, "cores": 2, **fields}
    return Profile(Walk(stages, total, wire_ms), {target.name: target for target in targets}, **known)


def stage(kind: str, compute_ms: float, queue_ms: float = 0.0) -> Stage:
    return Stage(f"m_{kind}", kind, compute_ms, queue_ms, 1.0)


def target(name: str, instances: int = 1, batching: bool = True) -> Target:
    return Target(name, "", (), (), True, instances=instances, dynamic_batching=batching)


def test_a_long_queue_before_idle_cores_asks_for_instances() -> None:
    first, *_ = advise(profile(stage("core", 2, queue_ms=8), targets=(target("m_core", instances=2),)))
    assert "80% of a request is waiting, most of it for 'm_core'" in first
    assert "instance_group [ { count: 3 }" in first


def test_a_long_queue_before_busy_cores_does_not() -> None:
    first, *_ = advise(profile(stage("core", 2, queue_ms=8), targets=(target("m_core"),), busy=0.95))
    assert "more instances will not help" in first


def test_a_queue_without_batching_asks_for_batching() -> None:
    first, *_ = advise(profile(stage("core", 2, queue_ms=8), targets=(target("m_core", batching=False),)))
    assert "dynamic_batching" in first


@pytest.mark.parametrize(
    ("kind", "busy", "expected"),
    [
        ("preprocess", 0.5, "more instances of it"),
        ("preprocess", 0.95, "smaller inputs"),
        ("core", 0.95, "int8"),
        ("core", 0.5, "more threads or instances"),
        ("postprocess", 0.5, "--postprocess graph"),
        ("pipeline", 0.5, "--approach ensemble"),
    ],
)
def test_the_heaviest_stage_gets_its_remedy(kind: str, busy: float, expected: str) -> None:
    rest = stage("core" if kind != "core" else "preprocess", 1)
    (only,) = advise(profile(stage(kind, 9), rest, busy=busy))
    assert only.startswith(f"90% of the computing is {kind} ('m_{kind}')")
    assert expected in only


def test_time_outside_the_model_is_named() -> None:
    assert any("outside the model" in text for text in advise(profile(stage("core", 1), wire_ms=9)))


def test_padding_is_named() -> None:
    assert any(
        "30% of the tokens computed are padding" in text for text in advise(profile(stage("core", 1), padding=0.3))
    )


def test_errors_and_a_busy_client_come_first() -> None:
    found = advise(profile(stage("core", 1), errors=3, client_cpu=0.9))
    assert found[0].startswith("3 requests failed")
    assert "load generator" in found[1]


def test_nothing_to_say_is_said() -> None:
    even = [stage(kind, 3) for kind in ("preprocess", "core", "postprocess")]
    assert advise(profile(*even)) == ["nothing stands out: no queue, no stage that dominates"]
