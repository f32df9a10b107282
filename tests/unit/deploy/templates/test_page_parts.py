"""Questions about pages of words in boxes: the light parts give what transformers' pipeline gives."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conch.deploy.samples import SENTENCES
from conch.deploy.split.parts import CannotSplit, DoesNotApply
from tests.checkpoints import samples
from tests.unit.deploy.templates.part import encoded, file_rows, load_part, text_rows

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
document = pytest.importorskip("conch.deploy.split.document")
tokenization = pytest.importorskip("tests.checkpoints.tokenization")
document_pipeline = pytest.importorskip("transformers.pipelines.document_question_answering")

PARAMETERS = "top_k:int doc_stride:int max_answer_len:int max_seq_len:int handle_impossible_answer:bool lang:str"
ASKED = {"question": "TYPE_STRING 1", "image": "TYPE_STRING 1", "word_boxes": "TYPE_STRING 1"}
READ = {
    **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids", "word_ids"), "TYPE_INT64 -1 -1"),
    "bbox": "TYPE_INT64 -1 -1 4",
    "words": "TYPE_STRING -1",
}
SAID = {
    **dict.fromkeys(("start_logits", "end_logits"), "TYPE_FP32 -1 -1"),
    "word_ids": "TYPE_INT64 -1 -1",
    "words": "TYPE_STRING -1",
}
ANSWERS = {
    "answer": "TYPE_STRING -1",
    "scores": "TYPE_FP32 -1",
    "start": "TYPE_INT64 -1",
    "end": "TYPE_INT64 -1",
    "json": "TYPE_STRING 1",
}
WORDS = SENTENCES[1].split()
PAGE = [[word, [10 * n, 20, 10 * n + 9, 40]] for n, word in enumerate(WORDS)]


def pipe_of(tokenizer: Any, **attributes: Any) -> Any:
    """The library's pipeline around a network that is never asked."""
    kind = document_pipeline.DocumentQuestionAnsweringPipeline
    pipe = kind.__new__(kind)
    config = transformers.LayoutLMConfig(vocab_size=len(tokenizer), max_position_embeddings=128)
    made = {"tokenizer": tokenizer, "model": SimpleNamespace(config=config), "image_processor": None}
    made |= {"feature_extractor": None, "model_type": document_pipeline.ModelType.LayoutLM, "dtype": None}
    pipe.__dict__.update(made | attributes)
    return pipe


@pytest.fixture(scope="module")
def pipe() -> Any:
    return pipe_of(tokenization.bert(max_length=128))


@pytest.fixture(scope="module")
def contents(pipe: Any) -> dict[str, bytes]:
    files: dict[str, bytes] = document.page_files(pipe)
    return files


@pytest.fixture
def before(contents: dict[str, bytes], tmp_path: Path) -> Any:
    settings = {"task": "document-question-answering", "request_parameters": PARAMETERS}
    return load_part(tmp_path, "read_page.py", ASKED, READ, settings, contents)


@pytest.fixture
def after(tmp_path: Path) -> Any:
    settings = {"task": "document-question-answering", "request_parameters": PARAMETERS}
    return load_part(tmp_path, "find_answers.py", SAID, ANSWERS, settings)


def asked(question: str, page: Any = PAGE) -> dict[str, np.ndarray]:
    return {"question": text_rows([question]), "word_boxes": text_rows([json.dumps(page)])}


def test_tokenizer_of_byte_pairs_reads_words_in_boxes_too(tmp_path: Path) -> None:
    saved = tokenization.roberta()
    saved.model_max_length = 128
    saved.save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, add_prefix_space=True)
    files = document.page_files(pipe_of(tokenizer))
    assert json.loads(files["page_settings.json"]) == {"cls_id": 0, "sep_id": 2, "largest": 1023}


@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_k": 3, "handle_impossible_answer": True}], ids=str)
@pytest.mark.parametrize("cut", [{}, {"max_seq_len": 24, "doc_stride": 6}], ids=str)
def test_answers_are_those_of_the_pipeline(
    options: dict[str, Any], cut: dict[str, int], pipe: Any, before: Any, after: Any
) -> None:
    question = "Where did the boat lie?"
    made = before.ask(asked(question), {**cut, **options})
    parts = list(pipe.preprocess({"question": question, "word_boxes": PAGE}, **cut))
    assert made["input_ids"].shape[:2] == (1, len(parts)) and (len(parts) > 1) == bool(cut)
    random = np.random.default_rng(3)
    said = {name: random.normal(0, 3, made["word_ids"].shape).astype(np.float32) for name in document._OUTPUTS}
    expected = []
    for number, part in enumerate(parts):
        tokens = part["input_ids"].shape[1]
        for name in ("input_ids", "bbox", "attention_mask", "token_type_ids"):
            np.testing.assert_array_equal(made[name][0, number, :tokens], part[name][0].numpy())
        kept = {name: torch.from_numpy(array[:, number, :tokens].copy()) for name, array in said.items()}
        expected.append({**{key: part[key] for key in ("p_mask", "word_ids", "words", "attention_mask")}, **kept})
    want = pipe.postprocess(expected, **options)
    got = after.ask({**said, "word_ids": made["word_ids"], "words": made["words"]}, {**cut, **options})
    assert [answer.decode() for answer in got["answer"][0]] == [answer["answer"] for answer in want]
    np.testing.assert_allclose(got["scores"][0], [answer["score"] for answer in want], rtol=1e-5)
    assert [got["start"][0].tolist(), got["end"][0].tolist()] == [[a["start"] for a in want], [a["end"] for a in want]]
    assert [each["answer"] for each in json.loads(got["json"][0, 0])] == [answer["answer"] for answer in want]


def test_rows_of_one_request_may_have_unequal_numbers_of_parts(before: Any, after: Any) -> None:
    rows = [asked("Where?", PAGE[:4]), asked("Where did the boat lie?")]
    both = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    cut = {"max_seq_len": 24, "doc_stride": 6}
    made = before.ask(both, cut)
    assert (made["attention_mask"].sum(axis=2) > 0).tolist()[0].count(True) == 1 < made["word_ids"].shape[1]
    said = {
        name: np.sin(np.arange(made["word_ids"].size)).reshape(made["word_ids"].shape) for name in document._OUTPUTS
    }
    said = {name: array.astype(np.float32) for name, array in said.items()}
    got = after.ask({**said, "word_ids": made["word_ids"], "words": made["words"]}, cut)
    for row, alone in enumerate(before.ask(each, cut) for each in rows):
        parts, tokens = alone["word_ids"].shape[1:]
        own = {name: array[row : row + 1, :parts, :tokens] for name, array in said.items()}
        expected = after.ask({**own, "word_ids": alone["word_ids"], "words": alone["words"]}, cut)
        assert got["answer"][row].tolist() == expected["answer"][0].tolist()


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ({"words": []}, 'should be a list of ["word", [x0, y0, x1, y1]]'),
        ([["word", [1, 2, 3]]], 'should be a list of ["word", [x0, y0, x1, y1]]; number 0'),
        ([["word", [1, 2, 3, 4.5]]], "number 0 is"),
        ([["word", [30, 2, 3, 4]]], "the box [30, 2, 3, 4] of 'word' does not lie in a page"),
        ([["word", [0, 0, 3, 4000]]], "does not lie in a page of 1023 thousandths"),
    ],
)
def test_page_that_is_none_fails_alone_and_says_why(page: Any, text: str, before: Any) -> None:
    good, bad = before.execute([before.request(asked("Who?")), before.request(asked("Who?", page))])
    assert isinstance(good, dict) and text in str(bad)


def test_part_longer_than_the_model_takes_is_refused(before: Any) -> None:
    (outcome,) = before.execute([before.request(asked("Who?", PAGE * 20), {"max_seq_len": 200})])
    assert "the model takes at most 128" in str(outcome)


def test_page_without_words_is_read_by_tesseract(before: Any, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    image = samples.image(200, 100)
    found = {"text": ["Total", " ", "87"], "left": [10, 0, 60], "top": [5, 0, 33], "width": [30, 0, 11]}
    found["height"] = [12, 0, 9]
    heard: list[Any] = []

    def image_to_data(image: Any, lang: str | None, output_type: str, config: str) -> dict[str, list[Any]]:
        heard.append((image.size, lang, output_type, config))
        return found

    tesseract = ModuleType("pytesseract")
    tesseract.__dict__["image_to_data"] = image_to_data
    monkeypatch.setitem(sys.modules, "pytesseract", tesseract)
    monkeypatch.setattr(document_pipeline, "pytesseract", tesseract, raising=False)
    words, boxes = document_pipeline.apply_tesseract(image, "deu", "")
    request = {"question": text_rows(["How much?"]), "image": file_rows(encoded(image))}
    made = before.ask(request, {"lang": "deu"})
    assert [word.decode() for word in made["words"][0]] == words == ["Total", "87"]
    assert {tuple(box) for box in made["bbox"][0, 0].tolist()} == {(0,) * 4, (1000,) * 4, *map(tuple, boxes)}
    assert heard[0] == heard[1]


def test_page_without_words_and_without_tesseract_is_refused(before: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytesseract", None)
    request = {"question": text_rows(["How much?"]), "image": file_rows(encoded(samples.image(40, 30)))}
    (outcome,) = before.execute([before.request(request)])
    assert "pip install pytesseract" in str(outcome)


def test_image_beside_words_is_not_looked_at(before: Any) -> None:
    made = before.ask({**asked("Who?"), "image": file_rows(b"no image")})
    assert [word.decode() for word in made["words"][0]] == WORDS


@pytest.mark.parametrize("options", [{"top_k": 0}, {"max_answer_len": 0}], ids=str)
def test_wrong_parameters_are_refused(options: dict[str, int], before: Any, after: Any) -> None:
    made = before.ask(asked("Who?"))
    said = dict.fromkeys(document._OUTPUTS, np.zeros(made["word_ids"].shape, np.float32))
    taken = {**said, "word_ids": made["word_ids"], "words": made["words"]}
    good, bad = after.execute([after.request(taken), after.request(taken, options)])
    assert isinstance(good, dict) and "should be at least 1, got 0" in str(bad)


def test_models_that_look_at_the_image_or_write_are_refused_with_the_reason(pipe: Any) -> None:
    other = pipe_of(pipe.tokenizer, model_type=document_pipeline.ModelType.LayoutLMv2andv3)
    with pytest.raises(CannotSplit, match="looks at the image too"):
        document.page_files(other)
    writes = SimpleNamespace(model=SimpleNamespace(can_generate=lambda: True), pipe=None)
    with pytest.raises(DoesNotApply, match="it writes its answer"):
        document.document_question_answering(writes)


def test_pipeline_that_finds_other_answers_keeps_its_own(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = pipe.postprocess
    monkeypatch.setattr(pipe, "postprocess", lambda parts, **options: own(parts, **options)[:-1], raising=False)
    with pytest.raises(CannotSplit, match="other answers than light code"):
        document.page_files(pipe)
