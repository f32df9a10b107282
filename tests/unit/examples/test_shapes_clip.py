"""The demo checkpoint means something: it tells fresh drawings apart, through transformers' own pipeline too."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
CHECKPOINT = EXAMPLES / "shapes-clip"

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def training() -> ModuleType:
    sys.path.insert(0, str(EXAMPLES))
    try:
        import train_shapes_clip
    finally:
        sys.path.remove(str(EXAMPLES))
    return train_shapes_clip


def test_the_checkpoint_is_small_and_complete() -> None:
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8 << 20
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {path.name for path in files}


def test_fresh_drawings_get_the_right_label_in_every_label_set(training: ModuleType) -> None:
    accuracy = training.measure(CHECKPOINT, drawings=200, seed=987_654_321)
    assert min(accuracy.values()) >= 0.95, accuracy


@pytest.mark.parametrize(
    ("picture", "label"), [("red-circle.png", "a red circle"), ("blue-square.jpg", "a blue square")]
)
def test_transformers_own_pipeline_names_the_sample_drawings(picture: str, label: str) -> None:
    from transformers import pipeline

    classify = pipeline("zero-shot-image-classification", model=str(CHECKPOINT))
    answers = classify(
        str(CHECKPOINT / "samples" / picture), candidate_labels=["a red circle", "a blue square", "a green triangle"]
    )
    assert answers[0]["label"] == label
    assert answers[0]["score"] > 0.9
