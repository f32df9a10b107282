"""Answers among the words of a text or page: the spans whose first and last token a network scored best, with numpy
alone, as transformers' pipeline finds them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

NO_ANSWER, NO_TOKEN = -2, -3  # in `word_ids`, as `light_pages.py` writes them
NOTHING_YET = 1000000.0


class Part(NamedTuple):
    """What a network said of the tokens of one part of a text."""

    start: np.ndarray  # [tokens] of each to be an answer's first
    end: np.ndarray  # [tokens] ... last
    word_ids: np.ndarray  # [tokens] the word of each; below 0 none


def find_answers(
    parts: list[Part], words: list[str], top_k: int = 1, max_answer_len: int = 15, *, may_be_none: bool = False
) -> list[dict[str, Any]]:
    """The best answers, the best first.

    Args:
        max_answer_len: in tokens.
        may_be_none: that there is no answer is one too.
    """
    for name, value in (("top_k", top_k), ("max_answer_len", max_answer_len)):
        if value < 1:
            raise ValueError(f"{name} should be at least 1, got {value}")
    found: list[dict[str, Any]] = []
    nothing = NOTHING_YET
    for part in parts:
        tokens = int((part.word_ids > NO_TOKEN).sum())
        word_ids = part.word_ids[:tokens]
        allowed = word_ids > NO_ANSWER
        start, end = (shares(scores[:tokens], allowed) for scores in (part.start, part.end))
        if may_be_none:
            nothing = min(nothing, (start[0] * end[0]).item())
        start[0] = end[0] = 0.0
        for first, last, score in spans(start, end, top_k, max_answer_len):
            # The first token stands for "none", and has no word.
            if (allowed[first] or first == 0) and (allowed[last] or last == 0) and min(word_ids[[first, last]]) >= 0:
                begin, stop = int(word_ids[first]), int(word_ids[last])
                answer = " ".join(words[begin : stop + 1])
                found.append({"score": score, "answer": answer, "start": begin, "end": stop})
    if may_be_none:
        found.append({"score": nothing, "answer": "", "start": 0, "end": 0})
    return sorted(found, key=lambda answer: -answer["score"])[:top_k]


def shares(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The softmax of scores, where those that are not allowed get next to nothing."""
    kept = np.where(allowed, scores, -10000.0)
    powers = np.exp(kept - kept.max())
    result: np.ndarray = powers / powers.sum()
    return result


def spans(start: np.ndarray, end: np.ndarray, top_k: int, longest: int) -> list[tuple[int, int, float]]:
    """The best pairs of a first and a last token, at most `longest` tokens, with their scores."""
    scores = np.tril(np.triu(np.outer(start, end)), longest - 1).ravel()
    if top_k == 1:
        best = scores.argmax()[None]
    elif scores.size <= top_k:
        best = np.argsort(-scores)
    else:
        likely = np.argpartition(-scores, top_k)[:top_k]
        best = likely[np.argsort(-scores[likely])]
    return [(*divmod(int(place), len(end)), float(scores[place])) for place in best]
