from __future__ import annotations

from typing import Any

from conch.bench.statistics import counters, difference, models_of
from conch.bench.target import Step, Target


def entry(requests: int, inferences: int, executions: int, ns: int, hits: int = 0) -> dict[str, Any]:
    stat = {"count": requests, "ns": ns}
    names = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    return {
        "inference_count": inferences,
        "execution_count": executions,
        "inference_stats": {**dict.fromkeys(names, stat), "cache_hit": {"count": hits, "ns": 0}},
    }


def test_versions_are_added_up() -> None:
    total = counters([entry(2, 4, 1, 100), entry(3, 3, 3, 50)])
    assert (total["requests"], total["inferences"], total["executions"], total["success_ns"]) == (5, 7, 4, 150)


def test_empty_fields_and_text_numbers_of_grpc_are_read() -> None:
    total = counters(
        [{"inference_count": "7", "inference_stats": {"success": {"count": "7", "ns": "900"}, "queue": {}}}]
    )
    assert (total["inferences"], total["success_ns"], total["queue_ns"], total["executions"]) == (7, 900, 0, 0)


def test_what_happened_is_the_difference_of_two_looks() -> None:
    before = {"m": counters([entry(10, 20, 5, 1_000_000)])}
    after = {"m": counters([entry(14, 32, 8, 9_000_000, hits=1)]), "new": counters([])}
    (delta,) = difference(before, after)
    assert (delta.model, delta.requests, delta.batch, delta.cache_hits) == ("m", 4, 4.0, 1)
    assert delta.per_request_ms(delta.success_ns) == 2.0
    assert delta.compute_ns == 3 * 8_000_000


def test_a_model_that_did_nothing_divides_by_nothing() -> None:
    (delta,) = difference({"m": counters([])}, {"m": counters([])})
    assert (delta.batch, delta.per_request_ms(delta.success_ns)) == (0.0, 0.0)


def test_a_model_used_by_two_steps_is_looked_at_once() -> None:
    steps = tuple(Step(name, frozenset(), frozenset()) for name in ("pre", "core", "pre"))
    assert models_of(Target("all", "", (), (), True, steps=steps)) == ["all", "pre", "core"]
