"""Words to the pieces of a Unigram vocabulary: the likeliest ones, as the tokenizers library finds them.

The library keeps a hash map for every prefix of every piece, up to 600 MB for 250,000 pieces; here they are the keys of
one dictionary.

`pieces.json` beside model.py:

    pieces         the text of each piece; its place is its id
    unk_id         the piece that unknown characters become
    byte_fallback  true: they become the pieces of their bytes, where there are such
    lengths        lists of lengths, the shortest first
    starts         the first two characters of pieces, and the first four -> which of `lengths` those have that start so

`piece_scores.npy` FP64 [pieces]: the logarithm of how likely each piece is.
`piece_wholes.npy` BOOL [pieces]: of those that begin as words do, which are the likeliest way to write their text.
"""

from __future__ import annotations

import itertools
import json
import operator
from pathlib import Path
from typing import NamedTuple

import numpy as np

UNKNOWN_PENALTY = 10.0  # by how much an unknown character is less likely than the rarest piece
LONG_START = 4
REMEMBERED_WORDS = 20_000
LONGEST_REMEMBERED = 64


class Cut(NamedTuple):
    """A word in pieces."""

    ids: list[int]
    ends: list[int]  # where each ends, in characters; the bytes of what is unknown all end where it ends


class Pieces:
    """A vocabulary. Arithmetic and ties are the library's: FP64, and of equally likely ways the one found first."""

    def __init__(self, directory: Path) -> None:
        content = json.loads(Path(directory, "pieces.json").read_text(encoding="utf-8"))
        self.texts: list[str] = content["pieces"]
        self.ids = dict(zip(self.texts, range(len(self.texts)), strict=True))
        self.unk_id: int = content["unk_id"]
        self._scores: list[float] = np.load(Path(directory, "piece_scores.npy")).tolist()
        self._unk_score = min(self._scores) - UNKNOWN_PENALTY
        self._wholes: bytes = np.load(Path(directory, "piece_wholes.npy")).tobytes()
        self._byte_fallback: bool = content["byte_fallback"]
        lengths = [tuple(each) for each in content["lengths"]]
        self._lengths = {start: lengths[place] for start, place in content["starts"].items()}
        self._remembered: dict[str, Cut] = {}

    def cut(self, word: str) -> Cut:
        """The likeliest pieces of a word."""
        found = self._remembered.get(word)
        if found is None:
            number = self.ids.get(word)
            found = Cut([number], [len(word)]) if number is not None and self._wholes[number] else self._cut(word)
            if len(word) <= LONGEST_REMEMBERED:
                if len(self._remembered) >= REMEMBERED_WORDS:
                    self._remembered.clear()
                self._remembered[word] = found
        return found

    def _cut(self, word: str) -> Cut:
        """By dynamic programming; unknown characters that follow each other are one piece."""
        begins, numbers = self._likeliest(word)
        ids: list[int] = []
        ends: list[int] = []
        unk_id, end, unknown_until = self.unk_id, len(word), 0
        while end:
            begin, number = begins[end], numbers[end]
            if number == unk_id:
                unknown_until = unknown_until or end
                if not begin or numbers[begin] != unk_id:
                    own = self._ids_of(word[begin:unknown_until])
                    ids += own[::-1]
                    ends += [unknown_until] * len(own)
                    unknown_until = 0
            else:
                ids.append(number)
                ends.append(end)
            end = begin
        return Cut(ids[::-1], ends[::-1])

    def _ids_of(self, text: str) -> list[int]:
        """What stands for unknown characters."""
        number = self.ids.get(text)
        if number is not None:
            return [number]
        if self._byte_fallback:
            numbers = [self.ids.get(f"<0x{byte:02X}>", -1) for byte in text.encode()]
            if -1 not in numbers:
                return numbers
        return [self.unk_id]

    def _likeliest(self, word: str) -> tuple[list[int], list[int]]:
        """Of the likeliest way to cut what ends at each place: where its last piece begins, and which it is."""
        number_of, scores, lengths = self.ids.get, self._scores, self._lengths.get
        unk_id, unk_score = self.unk_id, self._unk_score
        size = len(word)
        best = [0.0, *[-np.inf] * size]
        begins, numbers = [0] * (size + 1), [0] * (size + 1)
        starts = map(lengths, map(operator.add, word, word[1:]))
        for begin, number, possible in zip(
            range(size), map(number_of, word), itertools.chain(starts, [None]), strict=True
        ):
            till_here = best[begin]
            end = begin + 1
            if number is None:
                number, score = unk_id, till_here + unk_score
            else:
                score = till_here + scores[number]
            if score > best[end]:
                best[end], begins[end], numbers[end] = score, begin, number
            if possible is None:
                continue
            for length in lengths(word[begin : begin + LONG_START]) or possible:
                end = begin + length
                if end > size:
                    break
                number = number_of(word[begin:end])
                if number is not None:
                    score = till_here + scores[number]
                    if score > best[end]:
                        best[end], begins[end], numbers[end] = score, begin, number
        return begins, numbers
