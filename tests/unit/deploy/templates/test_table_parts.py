"""Questions about tables: the light parts give what transformers' tokenizer and pipeline give."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, DoesNotApply
from tests.unit.deploy.templates.part import load_part, text_rows

pandas = pytest.importorskip("pandas")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tables = pytest.importorskip("conch.deploy.split.tables")
library = pytest.importorskip("transformers.models.tapas.tokenization_tapas")
table_pipeline = pytest.importorskip("transformers.pipelines.table_question_answering")

WORDS = (
    "what", "is", "the", "price", "of", "boat", "kite", "apple", "##s", "un", "##bel", "##ie", "##vable",
    "a", "b", "c", "naive", "e", ".", ",", "?", "-", "1", "2", "3", "##1", "##2", "##0", "東",
)  # fmt: skip
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EMPTY]"]
PARAMETERS = "truncation:str sequential:bool"
ASKED = {"query": "TYPE_STRING 1", "table": "TYPE_STRING 1"}
READ = {"input_ids": "TYPE_INT64 -1", "attention_mask": "TYPE_INT64 -1", "token_type_ids": "TYPE_INT64 -1 7"}
SAID = {
    "logits": "TYPE_FP32 -1",
    "logits_aggregation": "TYPE_FP32 4",
    "token_type_ids": "TYPE_INT64 -1 7",
    "table": "TYPE_STRING 1",
}
ANSWERS = {
    "answer": "TYPE_STRING 1",
    "cells": "TYPE_STRING -1",
    "coordinates": "TYPE_INT64 -1 2",
    "aggregator": "TYPE_STRING 1",
    "json": "TYPE_STRING 1",
}
TABLE = {"thing": ["boat", "kite", "apples"], "price": ["900", "12", "1"]}
QUESTION = "What is the price of a boat, more than 12?"
FEW = settings(max_examples=25, deadline=None, derandomize=True)


def tokenizer_of(directory: Path, **options: Any) -> Any:
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("\n".join([*SPECIAL, *WORDS]) + "\n", encoding="utf-8")
    return transformers.TapasTokenizer(str(vocabulary), **{"model_max_length": 64, **options})


def pipe_of(tokenizer: Any, **attributes: Any) -> Any:
    """The library's pipeline around a network that is never asked."""
    kind = table_pipeline.TableQuestionAnsweringPipeline
    pipe = kind.__new__(kind)
    config = transformers.TapasConfig(
        vocab_size=len(tokenizer),
        num_aggregation_labels=4,
        aggregation_labels=dict(enumerate(("NONE", "SUM", "AVERAGE", "COUNT"))),
        no_aggregation_label_index=0,
        reset_position_index_per_cell=False,
        max_position_embeddings=64,
    )
    model = SimpleNamespace(config=config)
    pipe.__dict__.update({"tokenizer": tokenizer, "model": model, "type": "tapas", "aggregate": 4} | attributes)
    return pipe


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pipe_of(tokenizer_of(tmp_path_factory.mktemp("tapas")))


@pytest.fixture(scope="module")
def contents(pipe: Any) -> dict[str, bytes]:
    files: dict[str, bytes] = tables.table_files(pipe.tokenizer, pipe.model.config)
    return files


@pytest.fixture
def before(contents: dict[str, bytes], tmp_path: Path) -> Any:
    settings = {"task": "table-question-answering", "request_parameters": PARAMETERS}
    return load_part(tmp_path, "tokenize_table.py", ASKED, READ, settings, contents)


@pytest.fixture
def after(pipe: Any, tmp_path: Path) -> Any:
    names = {"cells_settings.json": json.dumps(tables.cells_settings(pipe)).encode()}
    settings = {"task": "table-question-answering", "request_parameters": PARAMETERS}
    return load_part(tmp_path, "choose_cells.py", SAID, ANSWERS, settings, names)


def asked(question: str = QUESTION, table: Any = None) -> dict[str, np.ndarray]:
    return {"query": text_rows([question]), "table": text_rows([json.dumps(TABLE if table is None else table)])}


def value_of(value: Any) -> Any:
    """A value of the library as the light code has it."""
    if value.float_value is not None:
        return value.float_value
    date = value.date
    return tuple(None if each is None else float(each) for each in (date.year, date.month, date.day))


WRITTEN = (
    "may", "june", "january", "feb", "sept", "1", "2", "3", "30", "31", "29", "2009", "1699", "1700",
    "2016", "2017", "1,200", "1,20", ".5", "5.", "+", "-", "+5", "-3", "1st", "2nd", "second", "twelve",
    "zero", "inf", "nan", "infinity", "1e5", "1_0", "½", "²", "٣٤", "monday", "1990s", "05", "07",
    "1999-07", "12.11.2009", "05-05-2010", "a1", "b", "of", "ſ", "0", "00", "february",
)  # fmt: skip
PHRASES = st.lists(st.tuples(st.sampled_from(WRITTEN), st.sampled_from((" ", ", ", "-", ".", ""))), max_size=6).map(
    lambda parts: "".join(word + mark for word, mark in parts)
)
TEXTS = st.one_of(
    PHRASES, st.text(max_size=12), st.lists(st.sampled_from([*WORDS, *SPECIAL, "?", "N/A"])).map(" ".join)
)


@settings(FEW, max_examples=80)
@given(PHRASES)
def test_numbers_and_dates_are_those_that_the_library_finds(text: str) -> None:
    text = library.normalize_for_match(text)
    want = [value_of(value) for span in library.parse_text(text) for value in span.values]
    assert repr(light_module("light_values").values(text)) == repr(want)


@settings(FEW, max_examples=50)
@given(TEXTS)
def test_pieces_are_those_of_the_library(pipe: Any, contents: dict[str, bytes], text: str) -> None:
    assert tables.table_reader(contents).pieces(text) == pipe.tokenizer.tokenize(text)


@FEW
@given(
    st.integers(1, 4).flatmap(
        lambda rows: st.dictionaries(TEXTS, st.lists(TEXTS, min_size=rows, max_size=rows), min_size=1, max_size=4)
    ),
    TEXTS.filter(bool),
    st.sampled_from(["drop_rows_to_fit", "do_not_truncate"]),
)
def test_tensors_of_tables_are_those_of_the_library(
    pipe: Any, contents: dict[str, bytes], table: dict[str, list[str]], question: str, truncation: str
) -> None:
    want = pipe.preprocess({"table": pandas.DataFrame(table), "query": question}, truncation=truncation)
    got = tables.table_reader(contents, limited=False)(table, question, truncation)
    for name, array in got.items():
        np.testing.assert_array_equal(array, want[name][0].numpy())


@pytest.mark.parametrize("rows", [1, 6, 30, 100])
@pytest.mark.parametrize(
    "options", [{}, {"cell_trim_length": 2}, {"max_row_id": 5, "strip_column_names": True}], ids=str
)
def test_tables_are_cut_as_the_library_cuts_them(rows: int, options: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, **options)
    pipe = pipe_of(tokenizer)
    reader = tables.table_reader(tables.table_files(tokenizer, pipe.model.config), limited=False)
    table = {"thing": ["unbelievables boat what is"] * rows, "price": [str(number * 7 % 10) for number in range(rows)]}
    want = pipe.preprocess({"table": pandas.DataFrame(table), "query": QUESTION})
    got = reader(table, QUESTION)
    for name, array in got.items():
        np.testing.assert_array_equal(array, want[name][0].numpy())


@pytest.mark.parametrize(
    "options",
    [
        {"do_lower_case": False},
        {"strip_accents": False},
        {"tokenize_chinese_chars": False},
        {"do_basic_tokenize": False},
    ],
    ids=str,
)
def test_settings_of_the_tokenizer_are_kept(options: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, **options)
    reader = tables.table_reader(tables.table_files(tokenizer, pipe_of(tokenizer).model.config))
    for text in ("What naïve 東東 apples?", "unbelievable [SEP] Boat", "x" * 101, "a\u0301\u200db\ufffd \u3000c"):
        assert reader.pieces(text) == tokenizer.tokenize(text)


def test_question_of_another_length_than_the_checkpoint_reads_is_left_out(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, max_question_length=3)
    pipe = pipe_of(tokenizer)
    got = tables.table_reader(tables.table_files(tokenizer, pipe.model.config))(TABLE, QUESTION)
    want = pipe.preprocess({"table": pandas.DataFrame(TABLE), "query": QUESTION})
    assert got["input_ids"][1] == tokenizer.sep_token_id
    np.testing.assert_array_equal(got["token_type_ids"], want["token_type_ids"][0].numpy())


def test_light_code_is_proved_against_the_pipeline(pipe: Any, contents: dict[str, bytes], tmp_path: Path) -> None:
    names = tables.cells_settings(pipe)
    tables.prove(pipe, contents, names)
    with pytest.raises(CannotSplit, match="chooses other cells"):
        tables.prove(pipe, contents, {**names, "none": 1})
    changed = json.loads(contents["table_settings.json"]) | {"lower": False}
    with pytest.raises(CannotSplit, match="makes other input_ids of 'What is the price of the boat"):
        tables.prove(pipe, {**contents, "table_settings.json": json.dumps(changed).encode()}, names)


@pytest.mark.parametrize("seed", range(4))
def test_answers_are_those_of_the_pipeline(seed: int, pipe: Any, before: Any, after: Any) -> None:
    frame = pandas.DataFrame(TABLE)
    want = pipe.preprocess({"table": frame, "query": QUESTION})
    made = before.ask(asked(), {"sequential": True})
    random = np.random.default_rng(seed)
    logits = random.normal(0, 60, made["input_ids"].shape).astype(np.float32)
    ways = random.normal(0, 1, (1, 4)).astype(np.float32)
    inputs = {name: want[name] for name in READ}
    outputs = (torch.from_numpy(logits.copy()), torch.from_numpy(ways))
    expected = pipe.postprocess({"model_inputs": inputs, "table": frame, "outputs": outputs})
    said = {"logits": logits, "logits_aggregation": ways, "token_type_ids": made["token_type_ids"]}
    got = after.ask({**said, "table": asked()["table"]})
    assert got["answer"][0, 0].decode() == expected["answer"]
    assert [cell.decode() for cell in got["cells"][0]] == expected["cells"]
    assert [tuple(place) for place in got["coordinates"][0].tolist()] == expected["coordinates"]
    assert got["aggregator"][0, 0].decode() == expected["aggregator"]
    assert json.loads(got["json"][0, 0]) == json.loads(json.dumps(expected))


def test_rows_of_one_request_may_have_unequal_lengths(before: Any, after: Any) -> None:
    rows = [asked(), asked("What is it?", {"a": ["boat"], "b": ["2"]})]
    made = before.ask({name: np.concatenate([row[name] for row in rows]) for name in rows[0]})
    alone = before.ask(rows[1])
    length = alone["input_ids"].shape[1]
    assert made["attention_mask"][1].sum() == length < made["input_ids"].shape[1]
    for name in READ:
        np.testing.assert_array_equal(made[name][1, :length], alone[name][0])
        assert not made[name][1, length:].any()


@pytest.mark.parametrize(
    ("question", "table", "text"),
    [
        ("", TABLE, "query is empty"),
        ("a", {}, "table is empty"),
        ("a", {"a": []}, "table is empty"),
        ("a", [["a"]], 'table should be JSON: {"column": ["cell", ...], ...}'),
        ("a", {"a": ["b", 5]}, "all cells should be text, column 'a' has 5"),
        ("a", {"a": ["b", None]}, "all cells should be text, column 'a' has None"),
        ("a", {"a": ["b"], "c": []}, "all columns should have the same number of cells"),
        ("a", {str(number): ["b"] for number in range(64)}, "the table has 64 columns, the model takes 63"),
        ("a", {str(number): ["b"] for number in range(62)}, "tokens, the model takes at most 64"),
    ],
)
def test_table_that_is_none_fails_alone_and_says_why(question: str, table: Any, text: str, before: Any) -> None:
    good, bad = before.execute([before.request(asked()), before.request(asked(question, table))])
    assert isinstance(good, dict) and text in str(bad)


def test_wrong_truncation_and_tables_too_long_for_it_are_refused(before: Any) -> None:
    long = {"a": ["boat"] * 63}
    for truncation, text in (
        ("true", "truncation should be one of drop_rows_to_fit"),
        ("do_not_truncate", "at most 64"),
    ):
        (outcome,) = before.execute([before.request(asked("a", long), {"truncation": truncation})])
        assert text in str(outcome)
    assert before.ask(asked("a", long))["input_ids"].shape == (1, 64)
    (outcome,) = before.execute([before.request(asked("a", {"a": ["boat"] * 64}), {"truncation": "do_not_truncate"})])
    assert "the table has 64 rows, the model takes 63" in str(outcome)


def test_ids_that_the_network_has_no_vector_for_are_refused(pipe: Any, contents: dict[str, bytes]) -> None:
    changed = json.loads(contents["table_settings.json"]) | {"type_sizes": [3, 256, 3, 2, 256, 256, 10]}
    reader = tables.table_reader({**contents, "table_settings.json": json.dumps(changed).encode()})
    with pytest.raises(ValueError, match="the table has 3 rows, the model takes at most 2"):
        reader(TABLE, QUESTION)


def test_other_tokenizers_and_tokens_are_refused_with_the_reason(pipe: Any, tmp_path: Path) -> None:
    other = SimpleNamespace(pipe=SimpleNamespace(tokenizer=object(), type=None), model=pipe.model)
    with pytest.raises(DoesNotApply, match="not that of TAPAS"):
        tables.table_question_answering(other)
    more = tokenizer_of(tmp_path)
    more.add_tokens(["harbour"])
    with pytest.raises(CannotSplit, match="tokens beside those of its vocabulary"):
        tables.table_files(more, pipe.model.config)
