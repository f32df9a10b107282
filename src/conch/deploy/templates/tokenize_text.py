"""Turn texts into tokens: what a network of texts takes.

The setting `reads` says which inputs make a sample:
    text            `text`, perhaps with `text_pair`      -> tensors [tokens]
    texts           `text` [n]                            -> tensors [n, tokens]
    query-texts     `query` with each `text` [n]          -> tensors [n, tokens]
    premise-labels  `text` with each `candidate_labels`   -> tensors [n, tokens]
    chunks          `text`, cut into overlapping parts    -> tensors [parts, tokens]

Those of these outputs are made that config.pbtxt names: `input_ids`, `attention_mask`, `token_type_ids`; `starts`,
`ends`, `special_tokens_mask` [tokens]; `mask_positions` [masks], which tokens are to be filled in; `labels` [n], the
texts as they came; `normalize` and `activation` [1], what the request wants of the network. Rows that pad unequal
numbers of texts in one request have attention_mask 0 everywhere.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import numpy as np
from light_inputs import all_texts, one_text
from light_rows import prepare
from light_serving import Outputs, Row, Settings, activation, answer
from light_text import Text, TextEncoder


class Sample(NamedTuple):
    texts: list[str]  # one, or those of the input that has many
    other: str | None = None  # what goes with each of them


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        # The library's threads would compete with the engine for the cores, and a batch of texts takes a millisecond.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.settings = Settings(args)
        prepare(self.settings)
        values = self.settings.values
        self.encoder = TextEncoder(self.settings.version, self.settings.read_json("tokenizer_settings.json"))
        self.encoder.may_be_cut = "truncation" in self.settings.parameter_kinds
        self.reads = values["reads"]
        self.truncation = values.get("truncation") or None
        self.max_length = int(values.get("max_length") or values.get("max_seq_length") or 0) or None
        self.pad_to = int(values.get("pad_to", 0))
        self.special = values.get("special_tokens") != "false"
        self.template = values.get("hypothesis_template", "{}")
        self.prompts = json.loads(values.get("prompts", "{}"))
        self.positions = bool({"starts", "ends", "special_tokens_mask"} & self.settings.output_types.keys())
        self.settings.fill.update(self.encoder.fill)
        if self.encoder.left:
            self.settings.fill_left = frozenset(self.encoder.fill)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Sample:
        if self.reads == "texts":
            return Sample(all_texts(row["text"]))
        if self.reads == "query-texts":
            return Sample(all_texts(row["text"]), one_text(row["query"]))
        if self.reads == "premise-labels":
            return Sample(all_texts(row["candidate_labels"]), one_text(row["text"]))
        return Sample([one_text(row["text"])], one_text(row["text_pair"]) if "text_pair" in row else None)

    def infer(
        self,
        samples: list[Sample],
        hypothesis_template: str = "",
        truncation: bool | None = None,
        max_length: int | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        stride: int | None = None,
        normalize: bool | None = None,
        function_to_apply: str | None = None,
        prompt: str = "",
        prompt_name: str = "",
        **_: Any,
    ) -> list[Outputs | Exception]:
        if tokenizer_kwargs:
            truncation, max_length = tokenizer_options(**tokenizer_kwargs)
        prompt = self.prompt(prompt, prompt_name)
        texts = [text for sample in samples for text in self.pair(sample, hypothesis_template or self.template, prompt)]
        strategy = self.truncation
        if not self.pad_to and (truncation is not None or max_length):
            # As in transformers, a length alone cuts too.
            strategy = "longest_first" if truncation or truncation is None else None
        if stride and self.reads != "chunks":
            raise ValueError("the request parameter stride is not served by this model")
        length = max_length or self.max_length
        encodings = iter(
            self.encoder.encode(texts, strategy, length, stride or 0, self.positions, special=self.special)
        )
        others: Outputs = {
            "normalize": [self.settings.values.get("normalize") == "true" if normalize is None else normalize],
            "activation": activation(self.settings, function_to_apply),
        }
        outcomes: list[Outputs | Exception] = []
        for sample in samples:
            own = [next(encodings) for _ in sample.texts]
            try:
                outcomes.append({**self.outputs(sample, own, stride), **others})
            except ValueError as error:
                outcomes.append(error)
        return outcomes

    def prompt(self, prompt: str, name: str) -> str:
        """What goes before each text."""
        if name and name not in self.prompts:
            raise ValueError(f"unknown prompt_name {name!r}; the checkpoint has {sorted(self.prompts)}")
        return prompt or self.prompts.get(name or self.settings.values.get("default_prompt_name", ""), "")

    def pair(self, sample: Sample, template: str, prompt: str) -> list[Text]:
        """The texts of one sample as the tokenizer takes them."""
        if self.reads == "query-texts":
            return [(sample.other, text) for text in sample.texts]
        if self.reads == "premise-labels":
            return [(sample.other, template.format(label)) for label in sample.texts]
        if self.reads == "texts":
            return [template.format(text) for text in sample.texts]
        text = sample.texts[0]
        if self.settings.task == "sentence-embedding":
            text = prompt + text.strip()
        return [text] if sample.other is None else [(text, sample.other)]

    def outputs(self, sample: Sample, encodings: list[Any], stride: int | None) -> Outputs:
        if stride:
            encodings = [encodings[0], *encodings[0].overflowing]
        self.encoder.check_length(encodings)
        self.check_mask(encodings)
        tensors: Outputs = dict(self.encoder.tensors(encodings, self.pad_to))
        if self.positions:
            tensors |= self.encoder.positions(encodings)
        if self.reads == "text":
            tensors = {name: value[0] for name, value in tensors.items()}
            tensors["mask_positions"] = np.flatnonzero(tensors["input_ids"] == self.encoder.mask_id)
        return {**tensors, "labels": sample.texts}

    def check_mask(self, encodings: list[Any]) -> None:
        """Raise ValueError if a text to be filled in has nothing to fill in."""
        if self.settings.task == "fill-mask" and any(self.encoder.mask_id not in each.ids for each in encodings):
            raise ValueError(f"No mask_token ({self.encoder.mask_token}) found on the input")


def tokenizer_options(
    truncation: bool | None = None, max_length: int | None = None, **others: Any
) -> tuple[bool | None, int | None]:
    """The options of the tokenizer that a request may set."""
    if others:
        raise ValueError(f"unknown options {sorted(others)} of the tokenizer; expected truncation and max_length")
    return truncation, max_length
