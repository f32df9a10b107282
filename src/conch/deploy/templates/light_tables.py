"""Questions about tables to the tensors of a network that reads cells (TAPAS), as transformers' tokenizer makes them.

`table_settings.json` beside model.py says what the tokenizer knows (see `light_wordpieces`), and

    cls, sep            its tokens before and behind the question
    pad_id, pad_type_id
    max_length          tokens that tables are cut to
    max_rows, max_columns, cell_trim_length, min_question_length, max_question_length, strip_column_names
    limit               tokens that the network can take; null: any number
    type_sizes          how many values each column of `token_type_ids` may have
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from light_values import column_values, normal, ranks, relations, values
from light_wordpieces import WordPieces

Table = dict[str, list[str]]
TRUNCATIONS = ("drop_rows_to_fit", "do_not_truncate")
#: The columns of `token_type_ids`: table or question, where the token stands, whether it answered the question before,
#: and what its cell's value is among others.
TYPES = ("segment", "column", "row", "previous", "rank", "inverse rank", "relation")
WHERE = ("a table", "columns", "rows", "answers", "different values in a column", "different values in a column", "")


class Tokens(NamedTuple):
    """The tokens of a table."""

    ids: np.ndarray  # [tokens]
    columns: np.ndarray  # [tokens] from 1 on
    rows: np.ndarray  # [tokens] 0 for the names of columns
    begins: np.ndarray  # [tokens] the number in its cell of the token that its word begins with


class TableReader:
    """Questions about tables to tensors."""

    def __init__(self, pieces: Mapping[str, int], settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.pieces = WordPieces(pieces, settings)
        self.fill = {"input_ids": settings["pad_id"], "token_type_ids": settings["pad_type_id"], "attention_mask": 0}

    def __call__(self, table: Any, question: str, truncation: str | None = None) -> dict[str, np.ndarray]:
        """`input_ids`, `attention_mask` [tokens], `token_type_ids` [tokens, 7].

        Raises:
            ValueError: the table is none, or too large.
        """
        if truncation not in (None, *TRUNCATIONS):
            raise ValueError(f"truncation should be one of {', '.join(TRUNCATIONS)}, got {truncation!r}")
        table = checked(table)
        if not question:
            raise ValueError("query is empty")
        question, asked = self.question(question)
        tokens = self.tokens(table)
        tokens = self.cut(tokens, len(asked), table, drop=truncation != "do_not_truncate")
        before = len(asked) + 2
        ids = self.pieces.ids([self.settings["cls"], *asked, self.settings["sep"]])
        types = np.zeros((before + len(tokens.ids), len(TYPES)), np.int64)
        types[before:, TYPES.index("segment")] = 1
        types[before:, TYPES.index("column")] = tokens.columns
        types[before:, TYPES.index("row")] = tokens.rows
        types[before:, 4:] = numeric_types(table, values(normal(question)), tokens)
        self.check(types)
        input_ids = np.concatenate([np.array(ids, np.int64), tokens.ids])
        return {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids), "token_type_ids": types}

    def question(self, text: str) -> tuple[str, list[str]]:
        """A question and its pieces; none if its length is not one the checkpoint reads."""
        pieces = self.pieces(text)
        shortest, longest = self.settings["min_question_length"], self.settings["max_question_length"]
        outside = (longest is not None and len(pieces) > longest) or (shortest is not None and len(pieces) < shortest)
        return ("", []) if outside else (text, pieces)

    def tokens(self, table: Table) -> Tokens:
        """All tokens, row by row, the names of the columns first."""
        names = [""] * len(table) if self.settings["strip_column_names"] else list(table)
        pieces: list[str] = []
        places: list[tuple[int, int, int]] = []
        for row, cells in enumerate([names, *map(list, zip(*table.values(), strict=True))]):
            for column, cell in enumerate(cells, 1):
                begin = 0
                for number, piece in enumerate(cell_pieces := self.pieces(cell)):
                    begin = begin if piece.startswith("##") else number
                    places.append((column, row, begin))
                pieces += cell_pieces
        columns, rows, begins = np.array(places, np.int64).reshape(-1, 3).T
        return Tokens(np.array(self.pieces.ids(pieces), np.int64), columns, rows, begins)

    def cut(self, tokens: Tokens, asked: int, table: Table, *, drop: bool) -> Tokens:
        """The tokens that fit beside a question: as many of each cell as there is room for, then fewer rows."""
        rows, columns = len(next(iter(table.values()))), len(table)
        if columns >= self.settings["max_columns"]:
            raise ValueError(f"the table has {columns} columns, the model takes {self.settings['max_columns'] - 1}")
        if rows >= self.settings["max_rows"]:
            if not drop:
                raise ValueError(f"the table has {rows} rows, the model takes {self.settings['max_rows'] - 1}")
            rows = self.settings["max_rows"] - 1
        longest = self.longest_cell(tokens)
        fitting = longest
        if drop:
            room = self.settings["max_length"] - asked - 2
            found = self.fitting(tokens, rows, longest, room)
            while found is None and rows > 0:
                rows -= 1
                found = self.fitting(tokens, rows, longest, room) if rows > 0 else None
            fitting = found or 1
        kept = (tokens.rows <= rows) & (tokens.begins < fitting)
        return Tokens(*(each[kept] for each in tokens))

    def longest_cell(self, tokens: Tokens) -> int:
        """The most tokens of a cell."""
        cells = tokens.rows * (tokens.columns.max(initial=0) + 1) + tokens.columns
        return int(np.bincount(cells).max(initial=0))

    def fitting(self, tokens: Tokens, rows: int, longest: int, room: int) -> int | None:
        """How many tokens of each cell of so many rows fit; None if none, or not all where cells have a set length."""
        trim = self.settings["cell_trim_length"]
        longest = min(longest, trim) if trim >= 0 else longest
        begins = np.bincount(tokens.begins[tokens.rows <= rows], minlength=longest + 1)
        costs = np.cumsum(begins)[: longest + 1]
        fitting = int(np.argmax(costs > room)) if (costs > room).any() else longest
        return None if fitting < longest and (trim >= 0 or fitting == 0) else fitting

    def check(self, types: np.ndarray) -> None:
        """Raise ValueError for what the network cannot take."""
        limit = self.settings["limit"]
        if limit and len(types) > limit:
            raise ValueError(
                f"the question and the table have {len(types)} tokens, the model takes at most {limit}: send a smaller "
                "table"
            )
        largest = types.max(axis=0, initial=0)
        for what, size, found in zip(WHERE, self.settings["type_sizes"], largest.tolist(), strict=True):
            if found >= size:
                raise ValueError(f"the table has {found} {what}, the model takes at most {size - 1}")


def checked(table: Any) -> Table:
    """A table: the cells of each column, all texts, of the same number.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(table, dict) or not all(isinstance(cells, list) for cells in table.values()):
        raise ValueError('table should be JSON: {"column": ["cell", ...], ...}')
    for name, cells in table.items():
        for cell in cells:
            if not isinstance(cell, str):
                raise ValueError(f"table: all cells should be text, column {name!r} has {cell!r}")
    if len({len(cells) for cells in table.values()}) > 1:
        raise ValueError("table: all columns should have the same number of cells")
    if not table or not next(iter(table.values())):
        raise ValueError("table is empty")
    return table


def numeric_types(table: Table, asked: Sequence[Any], tokens: Tokens) -> np.ndarray:
    """Rank, inverse rank and relation to the question's values of each token's cell, [tokens, 3]."""
    found = np.zeros((len(table) + 1, len(next(iter(table.values()))) + 1, 3), np.int64)
    for number, cells in enumerate(table.values(), 1):
        column = column_values(cells)
        for row, pair in ranks(column).items():
            found[number, row + 1, :2] = pair
        for row, relation in relations(asked, column).items():
            found[number, row + 1, 2] = relation
    types: np.ndarray = found[tokens.columns, tokens.rows]
    return types
