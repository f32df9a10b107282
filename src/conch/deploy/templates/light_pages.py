"""Pages of words in boxes to what a network takes that reads where words stand (LayoutLM), as transformers' pipeline
makes it of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

Arrays = dict[str, np.ndarray]
NO_WORD, NO_ANSWER, NO_TOKEN = -1, -2, -3  # in `word_ids`: of no word; no place for an answer; padding


class PageReader:
    """Questions about pages to tensors; `encoder` is a `light_text.TextEncoder`.

    `settings`: `cls_id` and `sep_id` of the tokenizer, and `largest`, the largest coordinate that the network knows.
    """

    def __init__(self, encoder: Any, settings: dict[str, Any]) -> None:
        self.encoder = encoder
        self.settings = settings
        self.fill = {**encoder.fill, "bbox": 0, "word_ids": NO_TOKEN}

    def __call__(
        self, question: str, page: list[Any], max_seq_len: int | None = None, doc_stride: int | None = None
    ) -> Arrays:
        """The tensors [parts, tokens] of a question with each part of a page, a list of pairs of word and box.

        `word_ids` says which word each token belongs to.

        Raises:
            ValueError: the page is none, or cannot be cut as wanted.
        """
        words, boxes = self.checked(page)
        length = max_seq_len or self.encoder.max_length
        stride = min(length // 2, 256) if doc_stride is None else doc_stride
        (first,) = self.encoder.encode([(question.split(), words)], "only_second", length, stride, True, split=True)
        parts = [first, *first.overflowing]
        self.encoder.check_length(parts)
        longest = max(map(len, parts))
        tensors = self.encoder.tensors(parts)
        tensors["word_ids"] = np.full((len(parts), longest), NO_TOKEN, np.int64)
        tensors["bbox"] = np.zeros((len(parts), longest, 4), np.int64)
        for row, part in enumerate(parts):
            tensors["word_ids"][row, : len(part)] = self.word_ids(part)
            tensors["bbox"][row, : len(part)] = self.boxes(part, boxes)
        return tensors

    def checked(self, page: list[Any]) -> tuple[list[str], list[list[int]]]:
        """Words and boxes of a page."""
        largest = self.settings["largest"]
        for number, pair in enumerate(page if isinstance(page, list) else [page]):
            word, box = pair if isinstance(pair, (list, tuple)) and len(pair) == 2 else (None, None)
            known = isinstance(box, (list, tuple)) and len(box) == 4 and all(type(each) is int for each in box)
            if not isinstance(word, str) or not known:
                raise ValueError(
                    f'word_boxes should be a list of ["word", [x0, y0, x1, y1]]; number {number} is {pair}'
                )
            x0, y0, x1, y1 = box
            if not (0 <= x0 <= x1 <= largest and 0 <= y0 <= y1 <= largest):
                raise ValueError(
                    f"word_boxes: the box {box} of {word!r} does not lie in a page of {largest} thousandths"
                )
        return [pair[0] for pair in page], [list(pair[1]) for pair in page]

    def word_ids(self, part: Any) -> list[int]:
        """The word of each token that may belong to an answer."""
        places = zip(part.ids, part.sequence_ids, part.word_ids, strict=True)
        return [
            (NO_WORD if word is None else word) if sequence == 1 or token == self.settings["cls_id"] else NO_ANSWER
            for token, sequence, word in places
        ]

    def boxes(self, part: Any, boxes: list[list[int]]) -> list[list[int]]:
        """The box of each token: that of its word, all of the page for what separates, its corner for the question."""
        places = zip(part.ids, part.sequence_ids, part.word_ids, strict=True)
        return [
            boxes[word] if sequence == 1 else [1000] * 4 if token == self.settings["sep_id"] else [0] * 4
            for token, sequence, word in places
        ]


def read_words(image: Image.Image, language: str | None) -> list[Any]:
    """The words on an image with their boxes in thousandths, as Tesseract reads them.

    Raises:
        ValueError: Tesseract is not installed.
    """
    try:
        import pytesseract
    except ImportError as error:
        raise ValueError(
            "without the input word_boxes the page is read by Tesseract, which is not installed: it needs the program "
            "`tesseract` and `pip install pytesseract`"
        ) from error
    found = pytesseract.image_to_data(image, lang=language, output_type="dict", config="")
    width, height = image.size
    page = []
    for word, x, y, w, h in zip(*(found[key] for key in ("text", "left", "top", "width", "height")), strict=True):
        if word.strip():
            sides = ((x, width), (y, height), (x + w, width), (y + h, height))
            page.append([word, [int(1000 * (side / size)) for side, size in sides]])
    return page
