"""The light part before a model that looks at a page and writes the answer gives what transformers' pipeline gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.split.parts import CannotSplit, DoesNotApply
from conch.deploy.split.subject import Subject
from tests.checkpoints import samples
from tests.unit.deploy.conftest import plan_of
from tests.unit.deploy.templates.part import encoded, file_rows, load_part, text_rows

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
written_answers = pytest.importorskip("conch.deploy.split.written_answers")

NAME = "document-question-answering.donut"
INPUTS = {"question": "TYPE_STRING 1", "image": "TYPE_STRING 1", "word_boxes": "TYPE_STRING 1"}


@pytest.fixture(scope="module")
def subject(checkpoint_of: Callable[[str], Path]) -> Subject:
    checkpoint = checkpoint_of(NAME)
    pipe = transformers.pipeline("document-question-answering", model=str(checkpoint))
    return Subject(plan_of(NAME, checkpoint), pipe, Checkpoint(checkpoint, NAME))


@pytest.fixture
def part(subject: Subject, tmp_path: Path) -> Any:
    preprocess, *others = written_answers.written_answers(subject).parts
    assert [each.suffix for each in others] == ["encoder", "generate"]
    outputs = {"inputs": "TYPE_FP32 3 32 32", "decoder_input_ids": "TYPE_INT64 -1"}
    assert [spec.name for spec in preprocess.outputs] == list(outputs)
    settings = {key: value for key, value, _ in preprocess.settings}
    return load_part(tmp_path, preprocess.template, INPUTS, outputs, settings, preprocess.contents)


def test_tensors_are_those_of_the_pipeline(part: Any, subject: Subject) -> None:
    questions = ("What is the total?", "naïve {} </s_question>", "")
    pages = [samples.image(width, height, seed=width) for width, height in ((64, 48), (37, 211), (300, 21))]
    asked = {"question": text_rows(*([question] for question in questions)), "image": file_rows(*map(encoded, pages))}
    got = part.ask(asked)
    for row, (question, page) in enumerate(zip(questions, pages, strict=True)):
        (want,) = subject.pipe.preprocess({"question": question, "image": page})
        np.testing.assert_allclose(got["inputs"][row], want["inputs"][0].numpy(), atol=1e-3)
        tokens = got["decoder_input_ids"][row]
        assert tokens[tokens >= 0].tolist() == want["decoder_input_ids"][0].tolist()


def test_what_the_model_cannot_read_is_refused(part: Any) -> None:
    page = file_rows(encoded(samples.image(64, 48)))
    good = part.request({"question": text_rows(["What?"]), "image": page})
    long = part.request({"question": text_rows(["What? " * 200]), "image": page})
    blind = part.request({"question": text_rows(["What?"]), "word_boxes": text_rows(["[]"])})
    answered, too_long, unseen = part.execute([good, long, blind])
    assert isinstance(answered, dict)
    assert "the model takes at most 64: send a shorter text" in str(too_long)
    assert "expected the input `image`: the model reads the page itself" in str(unseen)


def test_other_models_are_not_its_business(subject: Subject) -> None:
    reads = type("LayoutLM", (), {"can_generate": lambda self: False})()
    with pytest.raises(DoesNotApply, match="LayoutLM does not write its answer"):
        written_answers.written_answers(Subject(subject.plan, type("Pipe", (), {"model": reads})(), subject.checkpoint))


def test_processor_of_pages_of_several_sizes_is_refused(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject.pipe.image_processor, "do_pad", False)
    with pytest.raises(CannotSplit, match="DonutImageProcessorPil makes pages of several sizes"):
        written_answers.written_answers(subject)
