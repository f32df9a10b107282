from __future__ import annotations

import numpy as np

from conch.cli.infer_client import Answer
from conch.cli.infer_table import render, to_json_values


def _strings(*texts: str) -> np.ndarray:
    return np.array([text.encode() for text in texts], dtype=object)


def _answer(batches: bool = False, **outputs: np.ndarray) -> Answer:
    return Answer("m", "1", outputs, batches)


def test_string_output_labels_the_rows() -> None:
    answer = _answer(labels=_strings("cat", "dog"), scores=np.array([0.1, 0.9], dtype=np.float32))
    assert render(answer, {}).splitlines() == ["labels  scores", "dog     0.9000", "cat     0.1000"]


def test_batch_of_one_is_taken_off() -> None:
    answer = _answer(True, labels=_strings("a", "b")[np.newaxis], ids=np.array([[1, 2]]))
    assert render(answer, {}).splitlines() == ["labels  ids", "a         1", "b         2"]


def test_numbers_without_labels_are_no_table() -> None:
    assert render(_answer(logits=np.array([1.0, 2.0])), {}) == "logits: [1., 2.]"


def test_single_values_are_printed_by_name() -> None:
    answer = _answer(True, label=_strings("cat").reshape(1, 1), score=np.array([[0.5]], dtype=np.float32))
    assert render(answer, {}).splitlines() == ["label: cat", "score: 0.5000"]


def test_large_tensors_show_type_and_shape() -> None:
    printed = render(_answer(embedding=np.zeros((2, 100), dtype=np.float32)), {})
    assert printed.startswith("embedding: float32 [2, 100]\n")
    assert len(printed) < 500


def test_json_output_is_shown_only_where_it_is_alone() -> None:
    assert render(_answer(json=_strings("{}")), {}) == "json: {}"
    assert render(_answer(json=_strings("{}"), label=_strings("a")), {}) == "label: a"


def test_empty_output_is_printed() -> None:
    assert render(_answer(boxes=np.zeros((0, 4), dtype=np.float32)), {}) == "boxes: float32 [0, 4]"


def test_bytes_that_are_no_text_are_base64_in_json() -> None:
    answer = _answer(mask=np.array([b"\xff"], dtype=object), text=_strings("ok"))
    outputs = to_json_values(answer)["outputs"]
    assert outputs["mask"] == {"shape": [1], "data": [{"b64": "/w=="}]}
    assert outputs["text"] == {"shape": [1], "data": ["ok"]}
