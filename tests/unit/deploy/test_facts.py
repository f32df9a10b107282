"""What a plan needs is read from the checkpoint: sizes, labels, pooling."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.facts import read_facts
from conch.deploy.plan import Choices, make_plan
from conch.deploy.render import write_model
from conch.deploy.tasks import find_task
from conch.errors import InvalidArgumentError, UnavailableError
from tests.unit.deploy.stand_in import LocalModel

pytest.importorskip("transformers")

SENTENCES = ["The sea.", "  A red boat with two sails lay in the harbour of Lisbon.", "Maria bought a kite."]
POOLING = ["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"]


def facts(checkpoint: Path, task: str) -> Any:
    return read_facts(Checkpoint(checkpoint, "owner/name"), find_task(task))


def test_classes_are_counted_and_named(checkpoint_of: Callable[[str], Path]) -> None:
    found = facts(checkpoint_of("image-classification"), "image-classification")
    assert found.sizes["num_labels"] == (7,)
    assert "cat" in found.labels


def test_shape_of_image_features_is_that_of_the_model(checkpoint_of: Callable[[str], Path]) -> None:
    patches = facts(checkpoint_of("image-feature-extraction"), "image-feature-extraction")
    assert patches.sizes["image_features"] == (-1, 32)
    maps = facts(checkpoint_of("image-classification.convnext"), "image-feature-extraction")
    channels, *size = maps.sizes["image_features"]
    assert channels > 0
    assert size == [-1, -1]


def test_output_that_the_model_lacks_is_missing(checkpoint_of: Callable[[str], Path]) -> None:
    pooled = facts(checkpoint_of("image-feature-extraction"), "image-feature-extraction")
    assert pooled.missing_outputs == frozenset()
    plain = facts(checkpoint_of("image-segmentation"), "image-feature-extraction")
    assert plain.missing_outputs == {"pooler_output"}


def test_ranking_needs_a_single_class(checkpoint_of: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidArgumentError, match="has 3 classes; text-ranking expected a cross-encoder with 1"):
        facts(checkpoint_of("text-classification"), "text-ranking")


def test_decision_head_is_not_invented(checkpoint_of: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"has no trained decision head: expected decision\.json or"):
        facts(checkpoint_of("text-generation.qwen2"), "decision")


def sentence_transformer(checkpoint: Path, directory: Path, mode: str, dense: bool) -> Any:
    """A sentence-transformers checkpoint around a tiny BERT; returns the library's own model of it."""
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    transformer = modules.Transformer(str(checkpoint), max_seq_length=24)
    parts = [transformer, modules.Pooling(32, pooling_mode=mode)]
    if dense:
        parts.append(modules.Dense(32, 12))
    parts.append(modules.Normalize())
    library.SentenceTransformer(modules=parts, device="cpu").save(str(directory))
    return library.SentenceTransformer(str(directory), device="cpu")


@pytest.mark.parametrize("dense", [False, True], ids=["plain", "dense"])
@pytest.mark.parametrize("mode", POOLING)
def test_embeddings_are_those_of_sentence_transformers(
    mode: str, dense: bool, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = tmp_path / "checkpoint"
    truth = sentence_transformer(checkpoint_of("feature-extraction"), directory, mode, dense)
    checkpoint = Checkpoint(directory, "owner/name")
    task = find_task("sentence-embedding")
    plan = make_plan("model", task, "owner/name", read_facts(checkpoint, task), Choices())
    assert plan.outputs[0].dims == (12 if dense else 32,)
    model = LocalModel(
        write_model(plan, directory, checkpoint.files(), tmp_path, force=False, progress=lambda *each: None)
    )
    rows = np.array([[text.encode()] for text in SENTENCES], dtype=object)
    np.testing.assert_allclose(model.ask({"text": rows})["embeddings"], truth.encode(SENTENCES), atol=1e-5)


def test_module_that_is_not_known_is_refused(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    directory = tmp_path / "checkpoint"
    shutil.copytree(checkpoint_of("sentence-similarity"), directory)
    modules = json.loads((directory / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Odd", "type": "someone.modules.Odd"})
    (directory / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InvalidArgumentError, match=r"'someone\.modules\.Odd'; expected Transformer, Pooling, Dense"):
        facts(directory, "sentence-embedding")


def test_images_that_only_torchvision_prepares_are_refused_without_it(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    if importlib.util.find_spec("torchvision"):
        pytest.skip("torchvision is installed")
    shutil.copytree(checkpoint_of("mask-generation"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "Sam2ImageProcessorFast"}')
    with pytest.raises(
        UnavailableError, match=r"prepared by Sam2ImageProcessor, .* pip install torchvision, of the same"
    ):
        facts(tmp_path, "mask-generation")
