"""Write a text of the tokens of another: `input_ids`, `attention_mask` [tokens] -> what config.pbtxt names of

    new_tokens   [sequences, tokens], -1 is padding
    the outputs of the task, as text

`encoder_hidden_states` [tokens, size], if config.pbtxt has that input, is what the model's encoder makes of the tokens;
without it the encoder runs here. Requests that sent equal parameters are generated together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hf_generation import Cancelled
from hf_serving import Outputs, Row, Settings, answer
from hf_text_to_text import Writer


class Sample(NamedTuple):
    encoding: dict[str, torch.Tensor]
    states: torch.Tensor | None
    cancelled: Cancelled


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.settings.fill["new_tokens"] = -1
        self.writer = Writer(self.settings)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer, cancellable=True)

    def decode(self, row: Row, cancelled: Cancelled) -> Sample:
        """The tokens of a text, and their states, without the padding that longer texts of its request made."""
        real = row["attention_mask"].astype(bool)
        states = row.pop("encoder_hidden_states", None)
        encoding = {name: torch.from_numpy(value[real])[None] for name, value in row.items()}
        return Sample(encoding, None if states is None else torch.from_numpy(states[: len(real)][real]), cancelled)

    def infer(self, samples: list[Sample], seed: int | None = None, **parameters: Any) -> list[Outputs]:
        states = [sample.states for sample in samples if sample.states is not None]
        clients = [sample.cancelled for sample in samples]
        encodings = [sample.encoding for sample in samples]
        made = self.writer.write(encodings, clients, parameters, seed, states if len(states) == len(samples) else None)
        if "new_tokens" not in self.settings.output_types:
            return [self.writer.texts(sequences, parameters) for sequences in made]
        own = [[self.writer.own_tokens(each) for each in sequences] for sequences in made]
        return [
            {"new_tokens": torch.nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=-1)} for each in own
        ]
