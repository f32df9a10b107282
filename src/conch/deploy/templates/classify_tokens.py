"""Find the entities of a text: what token-classification pipelines make of the scores of its tokens.

`text`, `logits` [tokens, classes], `input_ids`, `starts`, `ends`, `special_tokens_mask` -> `labels`, `scores`, `words`,
`start`, `end`, `json`. With parts of a long text in front of the tokens ([parts, tokens]), the best of overlapping
entities count. `labels.json` beside model.py names the classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_inputs import one_text
from light_outputs import entities
from light_serving import Outputs, Row, Settings, answer
from light_text import TextEncoder

Entity = dict[str, Any]
STRATEGIES = ("none", "simple", "first", "average", "max")


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.encoder = TextEncoder(self.settings.version, self.settings.read_json("tokenizer_settings.json"))
        self.labels = self.settings.read_json("labels.json")
        self.knows_words = bool(getattr(self.encoder.tokenizer.model, "continuing_subword_prefix", None))

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(
        self,
        samples: list[Row],
        aggregation_strategy: str | None = None,
        ignore_labels: list[str] | None = None,
        **_: Any,
    ) -> list[Outputs]:
        strategy = (aggregation_strategy or "none").lower()
        if strategy not in STRATEGIES:
            raise ValueError(f"aggregation_strategy should be one of {', '.join(STRATEGIES)}, got {strategy!r}")
        ignored = ["O"] if ignore_labels is None else ignore_labels
        return [entities(self.find(sample, strategy, ignored)) for sample in samples]

    def find(self, sample: Row, strategy: str, ignored: list[str]) -> list[Entity]:
        text = one_text(sample["text"])
        names = ("logits", "input_ids", "starts", "ends", "special_tokens_mask")
        parts = [sample[name] if sample["input_ids"].ndim == 2 else sample[name][None] for name in names]
        found = [self.find_in_part(text, strategy, *part) for part in zip(*parts, strict=True)]
        kept = [
            [each for each in part if each.get("entity") not in ignored and each.get("entity_group") not in ignored]
            for part in found
        ]
        everything = [entity for part in kept for entity in part]
        # A part of special tokens alone pads the parts of other texts.
        parts_of_text = sum(not np.all(mask) for mask in parts[-1])
        return best_of_overlapping(everything) if parts_of_text > 1 else everything

    def find_in_part(
        self, text: str, strategy: str, logits: np.ndarray, ids: np.ndarray, starts: Any, ends: Any, special: Any
    ) -> list[Entity]:
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scores = powers / powers.sum(axis=-1, keepdims=True)
        tokens = [
            self.token(text, index, int(ids[index]), scores[index], int(starts[index]), int(ends[index]))
            for index in np.flatnonzero(special == 0).tolist()
        ]
        if strategy == "none":
            return [self.entity(token, index=token["index"]) for token in tokens]
        words = [[token] for token in tokens] if strategy == "simple" else group_words(tokens)
        found = [self.entity(word[0]) if strategy == "simple" else self.word(word, strategy) for word in words]
        return [self.merge(group) for group in group_entities(found)]

    def token(self, text: str, index: int, token: int, scores: np.ndarray, start: int, end: int) -> Entity:
        word, source = self.encoder.tokenizer.id_to_token(token), text[start:end]
        if self.knows_words:
            is_subword = len(word) != len(source)
        else:  # A guess: no space in front.
            is_subword = start > 0 and " " not in text[start - 1 : start + 1]
        if token == self.encoder.unk_id:
            word, is_subword = source, False
        return {
            "word": word, "scores": scores, "start": start, "end": end, "index": index, "is_subword": is_subword,
        }  # fmt: skip

    def entity(self, token: Entity, **more: Any) -> Entity:
        """The best class of a token."""
        best = int(token["scores"].argmax())
        return {
            "entity": self.labels[best],
            "score": token["scores"][best],
            **more,
            "word": token["word"],
            "start": token["start"],
            "end": token["end"],
        }

    def word(self, tokens: list[Entity], strategy: str) -> Entity:
        """The class of a word of several tokens."""
        if strategy == "first":
            scores = tokens[0]["scores"]
        elif strategy == "max":
            scores = max(tokens, key=lambda token: token["scores"].max())["scores"]
        else:
            scores = np.nanmean(np.stack([token["scores"] for token in tokens]), axis=0)
        whole = {"scores": scores, "word": self.encoder.join([token["word"] for token in tokens])}
        return self.entity({**whole, "start": tokens[0]["start"], "end": tokens[-1]["end"]})

    def merge(self, group: list[Entity]) -> Entity:
        """Neighbours of one class as one entity."""
        return {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": np.nanmean([entity["score"] for entity in group]),
            "word": self.encoder.join([entity["word"] for entity in group]),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }


def group_words(tokens: list[Entity]) -> list[list[Entity]]:
    """Tokens, a list a word."""
    words: list[list[Entity]] = []
    for token in tokens:
        if words and token["is_subword"]:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def group_entities(found: list[Entity]) -> list[list[Entity]]:
    """Neighbours of one class; "B-" starts a new entity."""
    groups: list[list[Entity]] = []
    for entity in found:
        if groups and tag(entity) == tag(groups[-1][-1]) and not entity["entity"].startswith("B-"):
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return groups


def tag(entity: Entity) -> str:
    """The class without "B-" or "I-"."""
    name: str = entity["entity"]
    return name[2:] if name.startswith(("B-", "I-")) else name


def best_of_overlapping(found: list[Entity]) -> list[Entity]:
    """Of entities that overlap, the longest, and of equally long ones the best."""
    kept: list[Entity] = []
    for entity in sorted(found, key=lambda entity: entity["start"]):
        if not kept or not kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            kept.append(entity)
        elif worth(entity) > worth(kept[-1]):
            kept[-1] = entity
    return kept


def worth(entity: Entity) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]
