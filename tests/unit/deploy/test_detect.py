"""The task of a checkpoint is told from its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.detect import detect_task
from conch.errors import InvalidArgumentError
from tests.checkpoints import TASKS

pytest.importorskip("transformers")

#: Tiny checkpoints whose task their files alone do not tell.
AMBIGUOUS = {
    "text-classification.regression": "several tasks: pass --task with one of text-classification, text-ranking",
    "zero-shot-classification": "one of text-classification, zero-shot-classification",
    "zero-shot-classification.bert": "one of text-classification, zero-shot-classification",
}
TOLD = [name for name in TASKS if name not in AMBIGUOUS]


@pytest.mark.parametrize("name", TOLD)
def test_task_is_told_from_the_files(name: str, checkpoint_of: Callable[[str], Path]) -> None:
    task = detect_task(Checkpoint(checkpoint_of(name), name)).name
    assert task == TASKS[name].task.replace("sentence-similarity", "sentence-embedding")


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_checkpoint_is_refused_with_its_candidates(name: str, checkpoint_of: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidArgumentError, match=AMBIGUOUS[name]):
        detect_task(Checkpoint(checkpoint_of(name), name))


def test_chat_model_is_for_text_generation_though_it_could_decide(checkpoint_of: Callable[[str], Path]) -> None:
    assert detect_task(Checkpoint(checkpoint_of("text-generation.qwen2"), "owner/name")).name == "text-generation"


def test_document_reader_could_also_describe_images(tmp_path: Path) -> None:
    found = bare(
        tmp_path,
        model_type="vision-encoder-decoder",
        architectures=["VisionEncoderDecoderModel"],
        encoder={"model_type": "donut-swin"},
    )
    with pytest.raises(InvalidArgumentError, match="one of document-question-answering, image-text-to-text"):
        detect_task(found)


def bare(directory: Path, card: str = "", **config: Any) -> Checkpoint:
    (directory / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    if card:
        (directory / "README.md").write_text(card)
    return Checkpoint(directory, "owner/name")


def test_tag_of_the_model_card_wins_over_the_architecture(tmp_path: Path) -> None:
    card = "---\nlicense: mit\npipeline_tag: zero-shot-classification\n---\n# Model\n"
    found = bare(tmp_path, card, architectures=["BertForSequenceClassification"])
    assert detect_task(found).name == "zero-shot-classification"


def test_tag_of_the_hub_wins_over_the_model_card(tmp_path: Path) -> None:
    bare(tmp_path, "---\npipeline_tag: fill-mask\n---\n")
    assert detect_task(Checkpoint(tmp_path, "owner/name", "feature-extraction")).name == "feature-extraction"


def test_line_of_the_text_is_no_tag(tmp_path: Path) -> None:
    found = bare(tmp_path, "---\nlicense: mit\n---\npipeline_tag: fill-mask\n", architectures=["BertForMaskedLM"])
    assert detect_task(found).name == "fill-mask"


def test_tag_of_a_removed_task_is_named(tmp_path: Path) -> None:
    found = bare(tmp_path, "---\npipeline_tag: question-answering\n---\n", architectures=["BertOdd"])
    with pytest.raises(
        InvalidArgumentError, match="its task 'question-answering' has no transformers pipeline any more"
    ):
        detect_task(found)


@pytest.mark.parametrize(
    ("architecture", "config", "task"),
    [
        ("BertModel", {}, "feature-extraction"),
        ("ViTModel", {"model_type": "vit"}, "image-feature-extraction"),
        ("OneFormerForUniversalSegmentation", {"model_type": "oneformer"}, "image-segmentation"),
        ("Mask2FormerForUniversalSegmentation", {"model_type": "mask2former"}, "image-segmentation"),
        ("BertForSequenceClassification", {"id2label": {"0": "a", "1": "b"}}, "text-classification"),
        ("BertForSequenceClassification", {"id2label": {"0": "a"}, "sentence_transformers": {}}, "text-ranking"),
    ],
)
def test_task_is_told_from_the_architecture(
    tmp_path: Path, architecture: str, config: dict[str, Any], task: str
) -> None:
    assert detect_task(bare(tmp_path, architectures=[architecture], **config)).name == task


@pytest.mark.parametrize(
    ("model_type", "architecture", "config", "task"),
    [
        ("t5", "T5ForConditionalGeneration", {}, "text2text-generation"),
        ("bart", "BartForConditionalGeneration", {}, "text2text-generation"),
        ("bart", "BartForConditionalGeneration", {"task_specific_params": {"summarization": {}}}, "summarization"),
        (
            "t5",
            "T5ForConditionalGeneration",
            {"task_specific_params": {"summarization": {}, "translation_en_to_de": {}}},
            "text2text-generation",
        ),
        ("pegasus", "PegasusForConditionalGeneration", {}, "summarization"),
        ("marian", "MarianMTModel", {}, "translation"),
        ("m2m_100", "M2M100ForConditionalGeneration", {}, "translation"),
        ("whisper", "WhisperForConditionalGeneration", {}, "automatic-speech-recognition"),
    ],
)
def test_task_of_an_encoder_and_a_decoder_is_told_from_what_it_is_made_for(
    tmp_path: Path, model_type: str, architecture: str, config: dict[str, Any], task: str
) -> None:
    assert detect_task(bare(tmp_path, model_type=model_type, architectures=[architecture], **config)).name == task


def test_tag_of_the_hub_tells_what_an_encoder_and_a_decoder_write(tmp_path: Path) -> None:
    bare(tmp_path, model_type="t5", architectures=["T5ForConditionalGeneration"])
    assert detect_task(Checkpoint(tmp_path, "owner/name", "translation")).name == "translation"
    assert detect_task(Checkpoint(tmp_path, "owner/name", "text-generation")).name == "text2text-generation"
