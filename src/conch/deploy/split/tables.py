"""Splits of models that answer questions about tables (TAPAS): nothing around the network needs transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from conch.deploy.export.quiet import quiet
from conch.deploy.extras import require
from conch.deploy.split.heads import Keyword
from conch.deploy.split.light import light_module
from conch.deploy.split.network import Network
from conch.deploy.split.odd_texts import odd_texts
from conch.deploy.split.parts import CannotSplit, CorePart, DoesNotApply, PaddedAxis, Split
from conch.deploy.split.segments import followed_segments
from conch.deploy.split.stages import python_part, unpadded_setting
from conch.deploy.split.subject import Subject
from conch.deploy.split.tokens import MASK
from conch.deploy.split.traced import Traced
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

Table = dict[str, list[str]]

_TOKENIZER = "TapasTokenizer"
_LOWEST = -88.7
_MANY = 10**6
_TYPES = "token_type_ids"
_LOGITS, _AGGREGATION = "logits", "logits_aggregation"
#: Questions and tables that prove the settings, and the export.
_QUESTIONS = (
    "What is the price of the boat?",
    "How many were more than 1,200.5 before March 3, 2009, or in 1999-07?",
    "  Ünïcödé,  [SEP] the second 4711th of +5 ... 東京\U0001f41a\u200d?",
)
_TABLES: tuple[Table, ...] = (
    {"thing": ["boat", "kite", "apple"], "price": ["900", "12", "1"]},
    {"": ["", "?", "nan", "n/a", " "], "a_b": ["-1,234.5", "+.5", "1e5", "12th", "three"], "[CLS]": list("abcde")},
    {
        "date": ["7 february 1967", "Feb 29, 2012", "1999-07-04", "Sunday, May 5", "12.11.2009"],
        "when": ["August 2007", "1990s", "05-05-2010", "2006", "1 Sep 1801"],
        "mixed": ["2008", "May", "twelve", "30 february", "-"],
        "Größe": ["1.5 m", "1,50 m", "１２", "½", "twenty"],
    },
    {"one": ["a very long cell unbelievably " * 20, "x"], "two": ["1", "2"]},
    {name: [str((row * 37) % 101) for row in range(50)] for name in ("row", "number", "year")},
    {f"column {number}": [f"cell {number}"] for number in range(12)},
)
#: Of each batch, of each row, the question and the table; the first is exported with.
_BATCHES = (((0, 0), (1, 2)), ((1, 1),), ((2, 0), (0, 3), (1, 4)))


class CellLogits(nn.Module):
    """The network's logits, none below the lowest that tells apart; what is asked of no cell is at it.

    Those of the question and of columns that were not chosen are ten thousand lower than others, and hang on padding.
    """

    def __init__(self, network: nn.Module, fields: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.fields = tuple(fields)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        said = self.network(*tensors)
        first, *others = (said[name].float() for name in self.fields)
        return (first.clamp(min=_LOWEST), *others)


def table_question_answering(subject: Subject) -> Split:
    """One question about one table a sample."""
    pipe, config = subject.pipe, subject.model.config
    if type(pipe.tokenizer).__name__ != _TOKENIZER or pipe.type != "tapas":
        raise DoesNotApply("its tokenizer is not that of TAPAS")
    contents = table_files(pipe.tokenizer, config)
    names = cells_settings(pipe)
    with quiet():  # tables larger than the network are compared too
        prove(pipe, contents, names)
    core = _core(
        subject, [_batch(table_reader(contents), rows) for rows in _BATCHES], aggregates="aggregators" in names
    )
    types = next(spec for spec in core.inputs if spec.name == _TYPES)
    preprocess = python_part(
        subject,
        "preprocess",
        "tokenize_table.py",
        subject.plan.inputs,
        core.inputs,
        summary="questions and tables to tokens",
        files=(() if core.padding else unpadded_setting(core.inputs), contents),
    )
    postprocess = python_part(
        subject,
        "postprocess",
        "choose_cells.py",
        (*core.outputs, types, *(spec for spec in subject.plan.inputs if spec.name == "table")),
        subject.plan.outputs,
        summary="the cells that answer",
        files=((), {"cells_settings.json": json.dumps(names).encode()}),
    )
    return Split((preprocess, core, postprocess))


def table_files(tokenizer: Any, config: Any) -> dict[str, bytes]:
    """Contents of a part that runs `tokenize_table.py`.

    Raises:
        CannotSplit: the tokenizer knows more than that part.
    """
    basic = getattr(tokenizer, "basic_tokenizer", None)
    if tokenizer.added_tokens_encoder.keys() - tokenizer.vocab.keys() or getattr(basic, "never_split", None):
        raise CannotSplit(f"{_TOKENIZER} has tokens beside those of its vocabulary")
    settings = {
        "unknown": str(tokenizer.unk_token),
        "empty": str(tokenizer.extra_special_tokens[0]),
        "special": list(tokenizer.all_special_tokens),
        "basic": bool(tokenizer.do_basic_tokenize),
        "lower": bool(basic and basic.do_lower_case),
        "strip_accents": basic and basic.strip_accents,
        "split_cjk": bool(basic and basic.tokenize_chinese_chars),
        "cls": str(tokenizer.cls_token),
        "sep": str(tokenizer.sep_token),
        "pad_id": tokenizer.pad_token_id,
        "pad_type_id": tokenizer.pad_token_type_id,
        "max_length": int(tokenizer.model_max_length),
        "max_rows": int(tokenizer.max_row_id),
        "max_columns": int(tokenizer.max_column_id),
        "cell_trim_length": tokenizer.cell_trim_length,
        "min_question_length": tokenizer.min_question_length,
        "max_question_length": tokenizer.max_question_length,
        "strip_column_names": bool(tokenizer.strip_column_names),
        "limit": None if config.reset_position_index_per_cell else config.max_position_embeddings,
        "type_sizes": list(config.type_vocab_sizes),
    }
    return {
        "word_pieces.json": json.dumps(dict(tokenizer.vocab), ensure_ascii=False, separators=(",", ":")).encode(),
        "table_settings.json": json.dumps(settings, ensure_ascii=False, indent=1).encode(),
    }


def cells_settings(pipe: Any) -> dict[str, Any]:
    """cells_settings.json."""
    if not pipe.aggregate:
        return {}
    config = pipe.model.config
    labels = [config.aggregation_labels[number] for number in range(config.num_aggregation_labels)]
    return {"aggregators": labels, "none": config.no_aggregation_label_index}


def table_reader(contents: Mapping[str, bytes], *, limited: bool = True) -> Any:
    """What `tokenize_table.py` does with these files; without its limits also with what is larger than the network."""
    pieces, settings = (json.loads(contents[name]) for name in ("word_pieces.json", "table_settings.json"))
    if not limited:
        settings |= {"limit": None, "type_sizes": [_MANY] * len(settings["type_sizes"])}
    return light_module("light_tables").TableReader(pieces, settings)


def _batch(reader: Any, rows: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
    """The tensors of questions about tables, padded at the end."""
    made = [reader(_fitting(reader, _TABLES[table]), _QUESTIONS[question]) for question, table in rows]
    longest = max(len(each[MASK]) for each in made)
    batch = {}
    for name in made[0]:
        padded = np.full((len(made), longest, *made[0][name].shape[1:]), reader.fill[name], np.int64)
        for row, each in zip(padded, made, strict=True):
            row[: len(each[name])] = each[name]
        batch[name] = padded
    return batch


def _fitting(reader: Any, table: Table) -> Table:
    """As many rows and columns of a table as the network can take."""
    sizes = [*reader.settings["type_sizes"][1:3], *reader.settings["type_sizes"][4:6]]
    rows = min(sizes[1], sizes[2], sizes[3]) - 1
    return {name: cells[:rows] for name, cells in list(table.items())[: sizes[0] - 1]}


def _core(subject: Subject, samples: Sequence[dict[str, np.ndarray]], *, aggregates: bool) -> CorePart:
    config = subject.model.config
    width = len(config.type_vocab_sizes)
    inputs = (
        TensorSpec("input_ids", DataType.INT64, (-1,), "token ids, the question before the table"),
        TensorSpec(MASK, DataType.INT64, (-1,), "1 for a token, 0 for padding"),
        TensorSpec(_TYPES, DataType.INT64, (-1, width), "segment, column, row, 0, rank, inverse rank, relation"),
    )
    ways = (TensorSpec(_AGGREGATION, DataType.FP32, (config.num_aggregation_labels,), "of each way to aggregate"),)
    outputs = (
        TensorSpec(_LOGITS, DataType.FP32, (-1,), "of each token, whether it answers"),
        *(ways if aggregates else ()),
    )
    names = [spec.name for spec in inputs]
    network = Traced(Keyword(subject.model, names, {"return_dict": True}), followed_segments)
    axes = {name: {0: "batch", 1: "sequence"} for name in (*names, _LOGITS)} | {_AGGREGATION: {0: "batch"}}
    fill = {"input_ids": config.pad_token_id or 0}
    padding = PaddedAxis("sequence", {name: (0, fill.get(name, 0)) for name in names}, {_LOGITS: 0})
    return CorePart(
        suffix="core",
        stage="core",
        summary="the network",
        inputs=inputs,
        outputs=outputs,
        network=Network(
            CellLogits(network, [spec.name for spec in outputs]).eval(), inputs, outputs, axes, tuple(samples), MASK
        ),
        # Padding counts among the tokens of no column, which such a network may choose.
        padding=() if config.allow_empty_column_selection else (padding,),
    )


def prove(pipe: Any, contents: Mapping[str, bytes], names: Mapping[str, Any]) -> None:
    """Raise CannotSplit unless questions about tables give the tensors and answers that the pipeline gives."""
    pandas = require("pandas")
    reader, choose = table_reader(contents, limited=False), light_module("light_cells").choose_cells
    random = np.random.default_rng(0)
    for question, table in _probes(reader):
        frame = pandas.DataFrame(table)
        uncut = ("do_not_truncate",) if len(frame) < reader.settings["max_rows"] else ()
        for truncation in (*uncut, "drop_rows_to_fit"):
            made = pipe.preprocess({"table": frame, "query": question}, truncation=truncation)
            got = reader(table, question, truncation)
            for key, value in made.items():
                if key != "table" and not np.array_equal(value[0].numpy(), got[key]):
                    raise CannotSplit(
                        f"{_TOKENIZER} makes other {key} of {question[:30]!r} about a table than light code"
                    )
        inputs = {key: value for key, value in made.items() if key != "table"}
        logits = random.normal(0, 60, (1, inputs[MASK].shape[1])).astype(np.float32)
        ways = random.normal(0, 1, (1, len(names["aggregators"]))).astype(np.float32) if names else None
        outputs = tuple(torch.from_numpy(array.copy()) for array in (logits, ways) if array is not None)
        expected = pipe.postprocess({"model_inputs": inputs, "table": frame, "outputs": outputs})
        types = inputs[_TYPES][0].numpy()
        if choose(table, types, logits[0], None if ways is None else ways[0], names) != expected:
            raise CannotSplit("the pipeline chooses other cells than light code")


def _probes(reader: Any) -> Iterator[tuple[str, Table]]:
    """Questions about tables of few columns, which every checkpoint takes."""
    yield from ((_QUESTIONS[number % len(_QUESTIONS)], table) for number, table in enumerate(_TABLES[:-1]))
    yield from ((question, _TABLES[2]) for question in _QUESTIONS)
    pieces = [piece.removeprefix("##") for piece in reader.pieces.pieces]
    texts = odd_texts(0, pieces, reader.settings["special"], 30)
    yield texts[3], {"odd": [text[:80] for text in texts], "number": [str(len(text)) for text in texts]}
