"""Turn texts into what a voice takes that reads letter by letter: `text` -> `input_ids`, `attention_mask` [letters],
`seed` [1], and where its durations are drawn `duration_noise` [2, letters].

`letters.json` beside model.py says what is done, in the words of `light_letters.py`. All random numbers of a sample
follow from its seed: the request's own, or one that nobody knows.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from light_inputs import one_text
from light_letters import Letters
from light_noise import Normal
from light_rows import prepare
from light_serving import Outputs, Row, Settings, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        prepare(self.settings)
        self.letters = Letters(self.settings.read_json("letters.json"))

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Outputs:
        text = one_text(row["text"])
        numbers = self.letters(text)
        if not numbers.size:
            raise ValueError(f"the text has no letter that the model knows: {text[:40]!r}")
        return {"input_ids": numbers, "attention_mask": np.ones_like(numbers)}

    def infer(
        self,
        samples: list[Outputs],
        seed: int | None = None,
        generate_kwargs: dict[str, Any] | None = None,
        **_: Any,
    ) -> list[Outputs]:
        if generate_kwargs:
            raise ValueError(
                f"the model does not generate: it has no use for generate_kwargs {sorted(generate_kwargs)}"
            )
        return [self.drawn(sample, secrets.randbits(32) if seed is None else seed) for sample in samples]

    def drawn(self, sample: Outputs, seed: int) -> Outputs:
        made = {**sample, "seed": [seed % 2**32]}
        if "duration_noise" in self.settings.output_types:
            letters = len(sample["input_ids"])
            made["duration_noise"] = Normal(seed).draw(2 * letters).reshape(2, letters)
        return made
