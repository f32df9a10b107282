"""Turn sounds into what a network of sounds takes.

`audio` (and `sampling_rate`) -> of these what config.pbtxt names: `input_values`, `input_features`, `attention_mask`,
`is_longer` [1], and `activation` [1], what the request wants of the network.
"""

from __future__ import annotations

from typing import Any

from light_audio import AudioProcessor
from light_inputs import one_audio
from light_rows import prepare
from light_serving import Outputs, Row, Settings, activation, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        prepare(self.settings)
        self.processor = AudioProcessor.read(self.settings.version)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> Outputs:
        return dict(self.processor(one_audio(row, self.processor.sampling_rate)))

    def infer(self, samples: list[Outputs], function_to_apply: str | None = None, **_: Any) -> list[Outputs]:
        code = activation(self.settings, function_to_apply)
        return [{**sample, "activation": code} for sample in samples]
