"""Texts that are JSON of a schema, whatever the model would like to write: the other tokens cannot be chosen."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor

MISSING = "request parameter 'json_schema' needs the package llguidance where the model runs: pip install llguidance"
#: Between the parts of JSON there may be a space, or a new line with its indentation: a model must not go on for ever.
_SPACE = r"( |\n {0,32})?"


class JsonGrammars:
    """Makes grammars for the tokenizer of a pipeline."""

    def __init__(self, pipe: Any, ends: frozenset[int]) -> None:
        self.pipe, self.ends = pipe, ends
        self.tokenizer: Any = None  # made when it is needed: large vocabularies take seconds

    def grammar(self, schema: str) -> JsonGrammar:
        """A processor that lets one call of `generate` write nothing but JSON of this schema.

        Raises:
            ValueError: the package is missing, or the schema is wrong or beyond what can be enforced.
        """
        try:
            import llguidance
            import llguidance.hf
        except ImportError as error:
            raise ValueError(MISSING) from error
        if not self.ends:
            raise ValueError("request parameter 'json_schema' needs a checkpoint with a token that ends a text")
        if self.tokenizer is None:
            size = self.pipe.model.get_input_embeddings().weight.shape[0]
            self.tokenizer = llguidance.hf.from_tokenizer(
                self.pipe.tokenizer, max(size, len(self.pipe.tokenizer)), sorted(self.ends)
            )
        try:
            made = llguidance.LLMatcher.grammar_from_json_schema(
                read_schema(schema), overrides={"whitespace_flexible": True, "whitespace_pattern": _SPACE}
            )
        except ValueError as error:
            raise ValueError(f"request parameter 'json_schema' cannot be enforced: {error}") from error
        matcher = llguidance.LLMatcher(self.tokenizer, made, log_level=0)
        if matcher.is_error():
            reason = matcher.get_error().partition("\n")[0]
            raise ValueError(f"request parameter 'json_schema' cannot be enforced: {reason}")
        return JsonGrammar(matcher, self.ends)


class JsonGrammar(LogitsProcessor):
    """The tokens that may come next, for each sequence of a call of `generate`."""

    def __init__(self, matcher: Any, ends: frozenset[int]) -> None:
        self.matcher, self.ends = matcher, ends
        self.matchers: list[Any] = []
        self.ended: list[bool] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self.matchers:
            self.matchers = [self.matcher.deep_copy() for _ in input_ids]
            self.ended = [False for _ in input_ids]
        else:
            for row, token in enumerate(input_ids[:, -1].tolist()):
                self.ended[row] = self.ended[row] or token in self.ends
                if not self.ended[row]:
                    self.matchers[row].consume_token(token)
        found = np.stack([self.allowed(row, scores.shape[-1]) for row in range(len(self.matchers))])
        allowed = torch.from_numpy(found).to(scores.device)
        # JSON has an end, even if the checkpoint's least number of tokens forbids it: the form counts.
        stuck = ~(allowed & scores.isfinite()).any(-1, keepdim=True)
        return scores.masked_fill(stuck, 0.0).masked_fill(~allowed, -float("inf"))

    def allowed(self, row: int, size: int) -> np.ndarray:
        """Which tokens may come next; after the end, any: they are padding."""
        found = np.ones(size, bool)
        if not self.ended[row]:
            bits = np.unpackbits(np.frombuffer(self.matchers[row].compute_bitmask(), np.uint8), bitorder="little")
            found[:] = False
            found[: len(bits)] = bits[:size]
        return found


def read_schema(text: str) -> str:
    """A JSON schema, checked to be one object.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(json.loads(text), dict):
        raise ValueError("it is no JSON object")
    return text
