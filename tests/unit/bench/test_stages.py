from __future__ import annotations

import pytest

from conch.bench.stages import stage_kind, walk
from conch.bench.statistics import ModelDelta
from conch.bench.target import Step, Target, TargetInput
from conch.tensor import DataType

MS = 1_000_000


def step(model: str, reads: str, writes: str) -> Step:
    return Step(model, frozenset(reads.split()), frozenset(writes.split()))


ENSEMBLE = Target(
    "clip",
    "",
    (TargetInput("image", DataType.BYTES, (1,)),),
    ("probs",),
    True,
    platform="ensemble",
    steps=(step("clip_a", "image", "pixels"), step("clip_b", "pixels", "vector"), step("clip_c", "vector", "probs")),
)


def model(name: str, platform: str = "python") -> Target:
    return Target(name, "", (), (), True, platform=platform)


def delta(name: str, requests: int, total_ms: float, queue_ms: float, compute_ms: float) -> ModelDelta:
    return ModelDelta(
        name,
        requests,
        requests,
        requests,
        round(total_ms * MS * requests),
        round(queue_ms * MS * requests),
        0,
        round(compute_ms * MS * requests),
        0,
    )


@pytest.mark.parametrize(
    ("name", "platform", "kind"),
    [
        ("clip_preprocess", "python", "preprocess"),
        ("clip_core", "python", "core"),
        ("clip_postprocess", "python", "postprocess"),
        ("clip_image_encoder", "onnxruntime", "core"),
        ("clip_a", "python", "preprocess"),
        ("clip_b", "python", "core"),
        ("clip_c", "python", "postprocess"),
    ],
)
def test_steps_are_told_by_name_or_by_place(name: str, platform: str, kind: str) -> None:
    assert stage_kind(ENSEMBLE, model(name, platform)) == kind


def test_the_ensembles_own_name_says_nothing_of_its_steps() -> None:
    ensemble = Target("core", "", ENSEMBLE.inputs, ("probs",), True, steps=(step("core_x", "image", "y"),) * 2)
    assert stage_kind(ensemble, model("core_x")) == "preprocess"


def test_a_request_is_followed_through_the_steps_of_an_ensemble() -> None:
    models = [
        delta("clip", 10, 9.0, 0, 8.0),
        delta("clip_a", 10, 3.0, 1.0, 2.0),
        delta("clip_b", 10, 5.0, 1.0, 4.0),
        delta("clip_c", 10, 1.0, 0.0, 1.0),
    ]
    steps = [model("clip_a"), model("clip_b", "onnxruntime"), model("clip_c")]
    found = walk(ENSEMBLE, steps, models, mean_ms=10.0)
    assert found is not None
    spent = {kind: pytest.approx(ms) for kind, ms in found.spent_ms().items() if ms}
    assert spent == {"queue": 2.0, "preprocess": 2.0, "core": 4.0, "postprocess": 1.0, "wire": 1.0}
    assert found.share("core") == pytest.approx(0.4)


def test_steps_count_for_the_requests_of_the_ensemble_not_for_their_own() -> None:
    models = [delta("clip", 10, 9.0, 0, 8.0), delta("clip_b", 20, 5.0, 0.0, 4.0)]  # two calls a request
    found = walk(ENSEMBLE, [model("clip_b", "onnxruntime")], models, mean_ms=9.0)
    assert found is not None
    assert found.stages[0].compute_ms == pytest.approx(8.0)


def test_a_model_that_is_no_ensemble_is_one_stage() -> None:
    found = walk(model("whole"), [], [delta("whole", 4, 3.0, 1.0, 2.0)], mean_ms=3.5)
    assert found is not None
    assert {kind: ms for kind, ms in found.spent_ms().items() if ms} == pytest.approx(
        {"queue": 1.0, "pipeline": 2.0, "wire": 0.5}
    )


def test_without_statistics_there_is_no_walk() -> None:
    assert walk(ENSEMBLE, [], [], 1.0) is None
    assert walk(ENSEMBLE, [], [delta("clip", 0, 0, 0, 0)], 1.0) is None
