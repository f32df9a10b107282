"""The tokenizers library with another Unigram model: what else `tokenizer.json` says is done by the library, words are
cut into pieces by `light_pieces`.

The model in `tokenizer.json` knows no piece, so that each word comes out of the library whole: normalized, with the
added tokens apart. What the library does to tokens after that, truncation and special tokens, is done here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from light_pieces import Pieces
from light_words import Words

Text = str | list[str] | tuple[str, str] | tuple[list[str], list[str]]

#: A tokenizer that cuts words into characters.
LETTERS = {"type": "BPE", "vocab": {"": 0}, "merges": [], "unk_token": "", "fuse_unk": False}


class Encoding:
    """Tokens, with what is known of each, as in `tokenizers.Encoding`.

    `offsets` and `word_ids` are empty unless they were asked for, and so is `overflowing`.
    """

    __slots__ = ("ids", "offsets", "overflowing", "sequence_ids", "special_tokens_mask", "type_ids", "word_ids")

    def __init__(self, ids: list[int], offsets: list[tuple[int, int]], word_ids: list[int | None]) -> None:
        self.ids = ids
        self.offsets = offsets
        self.word_ids = word_ids
        self.type_ids: list[int] = []
        self.sequence_ids: list[int | None] = []
        self.special_tokens_mask: list[int] = []
        self.overflowing: list[Encoding] = []

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def attention_mask(self) -> list[int]:
        return [1] * len(self.ids)

    def be(self, sequence: int | None, type_id: int) -> Encoding:
        """Say what all tokens are: of the text `sequence`, or special ones.

        To what overflows of a text the library gives the text's number for a type, whatever the template says.
        """
        count = len(self.ids)
        self.type_ids = [type_id] * count
        self.sequence_ids = [sequence] * count
        self.special_tokens_mask = [int(sequence is None)] * count
        for each in self.overflowing:
            each.be(sequence, sequence or 0)
        return self

    def joined(self, other: Encoding) -> Encoding:
        """Both; what overflows of one goes with all there is of the other."""
        both = Encoding(self.ids + other.ids, self.offsets + other.offsets, self.word_ids + other.word_ids)
        both.type_ids = self.type_ids + other.type_ids
        both.sequence_ids = self.sequence_ids + other.sequence_ids
        both.special_tokens_mask = self.special_tokens_mask + other.special_tokens_mask
        if self.overflowing or other.overflowing:
            others = [_alone(other), *other.overflowing]
            both.overflowing = [mine.joined(its) for mine in self.overflowing for its in others]
            both.overflowing += [_alone(self).joined(its) for its in other.overflowing]
        return both

    def cut(self, length: int, stride: int, direction: str) -> Encoding:
        """The first `length` tokens, or with the direction "left" the last; the others overflow, overlapping."""
        count = len(self.ids)
        if length >= count:
            return self
        if length == 0:
            return self._parts([(0, 0), (0, count)])
        if stride >= length:
            raise ValueError(f"an overlap of {stride} tokens is not less than the {length} tokens of each part")
        step = length - stride
        if direction == "left":
            parts = [(max(end - length, 0), end) for end in range(count, 0, -step)]
            last = next(number for number, (begin, _) in enumerate(parts) if begin == 0)
        else:
            parts = [(begin, min(begin + length, count)) for begin in range(0, count, step)]
            last = next(number for number, (_, end) in enumerate(parts) if end == count)
        return self._parts(parts[: last + 1])

    def _parts(self, places: list[tuple[int, int]]) -> Encoding:
        first, *others = (
            Encoding(self.ids[begin:end], self.offsets[begin:end], self.word_ids[begin:end]) for begin, end in places
        )
        first.overflowing = others
        return first


def _numbered(words: list[str]) -> tuple[list[int], list[str], list[int | None]]:
    """Words none of which is an added token, with their numbers."""
    return [0] * len(words), words, list(range(len(words)))


def _alone(encoding: Encoding) -> Encoding:
    """Without what overflows."""
    alone = Encoding(encoding.ids, encoding.offsets, encoding.word_ids)
    alone.type_ids, alone.sequence_ids = encoding.type_ids, encoding.sequence_ids
    alone.special_tokens_mask = encoding.special_tokens_mask
    return alone


class UnigramTokenizer:
    """What `light_text.TextEncoder` asks of a `tokenizers.Tokenizer`."""

    def __init__(self, directory: Path) -> None:
        written = Path(directory, "tokenizer.json").read_text(encoding="utf-8")
        content = json.loads(written)
        self.pieces = Pieces(directory)
        self._words = tokenizers.Tokenizer.from_str(written)
        self._ordinary = Words(content, self._words)
        self._letters = tokenizers.Tokenizer.from_str(json.dumps({**content, "model": LETTERS}))
        added = content["added_tokens"]
        numbers = {each["id"]: self._words.token_to_id(each["content"]) for each in added}
        self._added: dict[int, int] = {number: real for real, number in numbers.items()}
        self._added_texts: dict[int, str] = {real: self._words.id_to_token(each) for real, each in numbers.items()}
        self._added_ids: dict[str, int] = {each["content"]: each["id"] for each in added}
        self._special = {each["content"] for each in added if each["special"]}
        template = content["post_processor"]
        special = {name: tuple(each["ids"]) for name, each in template["special_tokens"].items()}
        self._templates = [_template(template[name], special) for name in ("single", "pair")]
        self.model = self._words.model
        self.decoder = self._words.decoder
        self.truncation: dict[str, Any] | None = None

    def no_padding(self) -> None:
        """Texts are never padded here."""

    def no_truncation(self) -> None:
        """Texts are encoded whole."""
        self.truncation = None

    def enable_truncation(self, max_length: int, stride: int, strategy: str, direction: str) -> None:
        """Cut texts at so many tokens; raises whatever the library says against it."""
        wanted = {"max_length": max_length, "stride": stride, "strategy": strategy, "direction": direction}
        self._words.enable_truncation(**wanted)
        self._words.no_truncation()
        self.truncation = wanted

    def encode_batch(
        self, texts: Sequence[Text], add_special_tokens: bool = True, is_pretokenized: bool = False
    ) -> list[Encoding]:
        """Tokens with `offsets`, `word_ids` and `overflowing`; otherwise as `encode_batch_fast`.

        Raises:
            ValueError: a text is too short to be cut as wanted, or the parts overlap completely.
        """
        return self._encode(texts, add_special_tokens, is_pretokenized, whole=True)

    def encode_batch_fast(
        self, texts: Sequence[Text], add_special_tokens: bool = True, is_pretokenized: bool = False
    ) -> list[Encoding]:
        """The tokens of texts or pairs of texts; with `is_pretokenized` of lists of words."""
        return self._encode(texts, add_special_tokens, is_pretokenized, whole=False)

    def encode(
        self, text: Any, pair: Any = None, add_special_tokens: bool = True, is_pretokenized: bool = False
    ) -> Encoding:
        """One text, or a pair."""
        texts = [text if pair is None else (text, pair)]
        return self._encode(texts, add_special_tokens, is_pretokenized, whole=True)[0]

    def token_to_id(self, text: str) -> int | None:
        """The id of a token."""
        return self._added_ids.get(text, self.pieces.ids.get(text))

    def id_to_token(self, number: int) -> str | None:
        """The text of a token."""
        known = self._added_texts.get(number)
        texts = self.pieces.texts
        return known if known is not None else texts[number] if number < len(texts) else None

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Tokens as text."""
        tokens = [token for token in map(self.id_to_token, ids) if token is not None]
        if skip_special_tokens:
            tokens = [token for token in tokens if token not in self._special]
        return " ".join(tokens) if self.decoder is None else self.decoder.decode(tokens)

    def _encode(self, texts: Sequence[Text], special: bool, split: bool, *, whole: bool) -> list[Encoding]:
        pairs = [text if isinstance(text, tuple) else (text,) for text in texts]
        tokens = iter(self._pieces([text for pair in pairs for text in pair], split, whole=whole))
        return [self._finished([next(tokens) for _ in pair], special) for pair in pairs]

    def _pieces(self, texts: list[Any], split: bool, *, whole: bool) -> list[Encoding]:
        """The pieces of each text."""
        words = [None if split else self._ordinary(text) for text in texts]
        if whole:
            letters = self._letters.encode_batch(texts, is_pretokenized=split, add_special_tokens=False)
            read = [
                self._read(text, split) if own is None else _numbered(own)
                for text, own in zip(texts, words, strict=True)
            ]
            return [self._placed(*each) for each in zip(read, letters, strict=True)]
        return [
            self._plain(*self._read(text, split)[:2]) if own is None else self._of_words(own)
            for text, own in zip(texts, words, strict=True)
        ]

    def _read(self, text: Any, split: bool) -> tuple[list[int], list[str], list[int | None]]:
        """The words of a text, as the library tells them."""
        words = self._words.encode(text, is_pretokenized=split, add_special_tokens=False)
        return words.ids, words.tokens, words.word_ids

    def _of_words(self, words: list[str]) -> Encoding:
        """The pieces of words."""
        cut = self.pieces.cut
        return Encoding([number for word in words for number in cut(word).ids], [], [])

    def _plain(self, numbers: list[int], words: list[str]) -> Encoding:
        """The pieces of words; 0 is the number of a word that is not an added token."""
        ids: list[int] = []
        for number, word in zip(numbers, words, strict=True):
            ids += self.pieces.cut(word).ids if number == 0 else [self._added[number]]
        return Encoding(ids, [], [])

    def _placed(self, read: tuple[list[int], list[str], list[int | None]], letters: tokenizers.Encoding) -> Encoding:
        """The pieces of words, and where they stood: from where its first letter came from to where its last did."""
        found = Encoding([], [], [])
        places = letters.offsets
        place = 0  # of the first letter of the word
        for number, word, word_id in zip(*read, strict=True):
            if number == 0:
                (ids, ends), size = self.pieces.cut(word), len(word)
            else:
                ids, ends, size = [self._added[number]], [1], 1
            begin = last = 0
            for end in ends:
                if end != last:
                    begin, last = last, end
                found.offsets.append((places[place + begin][0], places[place + end - 1][1]))
            found.ids += ids
            found.word_ids += [word_id] * len(ids)
            place += size
        return found

    def _finished(self, sequences: list[Encoding], special: bool) -> Encoding:
        """Cut as told, joined, and with the special tokens."""
        template = self._templates[len(sequences) - 1]
        if self.truncation is not None:
            added = sum(len(ids) for ids, _, _ in template if ids) if special else 0
            sequences = _cut(sequences, self.truncation, self.truncation["max_length"] - added)
        found: Encoding | None = None
        for ids, sequence, type_id in template:
            if not ids:
                each = sequences[sequence].be(sequence, type_id)
            elif special:
                each = Encoding(list(ids), [(0, 0)] * len(ids), [None] * len(ids)).be(None, type_id)
            else:
                continue
            found = each if found is None else found.joined(each)
        assert found is not None
        return found


def _cut(sequences: list[Encoding], truncation: dict[str, Any], room: int) -> list[Encoding]:
    """The sequences with at most `room` tokens together; as in the library whole ones if it is less than none.

    Raises:
        ValueError: what is to be cut is too short.
    """
    lengths = [len(each) for each in sequences]
    excess = sum(lengths) - room
    if excess <= 0 or room < 0:
        return sequences
    strategy = truncation["strategy"]
    if room == 0:
        lengths = [0] * len(lengths)
    elif strategy == "longest_first" and len(lengths) == 1:
        lengths = [room]
    elif strategy == "longest_first":
        shorter, longer = sorted(lengths)
        longer = max(shorter, room - shorter) if shorter <= room else shorter
        if shorter + longer > room:
            shorter, longer = room // 2, room // 2 + room % 2
        lengths = [longer, shorter] if lengths[0] > lengths[1] else [shorter, longer]
    else:
        which = int(strategy == "only_second")
        if which >= len(lengths):
            raise ValueError("Truncation error: Second sequence not provided")
        if lengths[which] <= excess:
            raise ValueError("Truncation error: Sequence to truncate too short to respect the provided max_length")
        lengths[which] -= excess
    stride, direction = truncation["stride"], truncation["direction"]
    return [each.cut(length, stride, direction) for each, length in zip(sequences, lengths, strict=True)]


#: The special tokens to add, or none of them and which of the texts; then the type id.
_Piece = tuple[tuple[int, ...], int, int]


def _template(written: list[dict[str, Any]], special: dict[str, tuple[int, ...]]) -> list[_Piece]:
    """What is made of a text or of a pair."""
    pieces: list[_Piece] = []
    for each in written:
        ((kind, value),) = each.items()
        if kind == "Sequence":
            pieces.append(((), int(value["id"] == "B"), value["type_id"]))
        else:
            pieces.append((special[value["id"]], 0, value["type_id"]))
    return pieces
