"""Say which tokens fit where a text says [MASK].

`input_ids`, `probs` [masks, vocabulary] -> `tokens`, `token_strings`, `scores`, `sequences`, `json`
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_outputs import guesses
from light_rows import bring_back
from light_serving import Outputs, Row, Settings, answer
from light_text import TextEncoder


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.encoder = TextEncoder(self.settings.version, self.settings.read_json("tokenizer_settings.json"))

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(
        self, samples: list[Row], top_k: int | None = None, targets: list[str] | None = None, **_: Any
    ) -> list[Outputs]:
        wanted = None if targets is None else self.target_ids(targets)
        count = 5 if top_k is None else top_k
        return [guesses(self.fill(sample, count, wanted)) for (sample,) in bring_back(self.settings, samples)]

    def fill(self, sample: Row, top_k: int, targets: np.ndarray | None) -> list[Any]:
        """The best guesses, for each mask if there are several."""
        ids = sample["input_ids"]
        places = np.flatnonzero(ids == self.encoder.mask_id)
        result = []
        # Rows behind the last mask pad texts of fewer masks.
        for place, probs in zip(places, sample["probs"], strict=False):
            choice = np.arange(len(probs)) if targets is None else targets
            best = choice[largest(probs[choice], top_k)]
            result.append([self.guess(ids, place, int(token), float(probs[token]), len(places)) for token in best])
        return result[0] if len(result) == 1 else result

    def guess(self, ids: np.ndarray, place: int, token: int, score: float, masks: int) -> dict[str, Any]:
        filled = ids.copy()
        filled[place] = token
        filled = filled[filled != self.encoder.fill["input_ids"]]
        # The other masks are special tokens too, and shall be seen.
        sequence = self.encoder.decode(filled.tolist(), skip_special_tokens=masks == 1)
        return {"score": score, "token": token, "token_str": self.encoder.decode([token]), "sequence": sequence}

    def target_ids(self, targets: list[str]) -> np.ndarray:
        """The tokens of words; of a word of several tokens, the first."""
        tokenizer = self.encoder.tokenizer
        found = set()
        for target in targets:
            token = tokenizer.token_to_id(target)
            tokens = tokenizer.encode(target, add_special_tokens=False).ids if token is None else [token]
            found.update(tokens[:1])
        if not found:
            raise ValueError("At least one target must be provided when passed.")
        return np.array(sorted(found))


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Where the largest values are, the largest first; of equal ones the first."""
    if count < len(values):
        least = np.partition(values, len(values) - count)[len(values) - count] if count > 0 else np.inf
        places = np.flatnonzero(values >= least)
    else:
        places = np.arange(len(values))
    return places[np.argsort(-values[places], kind="stable")][: max(count, 0)]
