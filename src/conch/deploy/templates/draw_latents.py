"""Say each letter for as long as it is spoken.

    `log_durations` [letters], `prior_means`, `prior_log_variances` [letters, channels], `attention_mask`, `seed`
    -> `latents` [channels, frames]

Settings: `noise_scale`, `speaking_rate`, and `duration_noise`: whether the durations were drawn too, before the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from light_noise import Normal
from light_rows import bring_back, prepare
from light_serving import Outputs, Row, Settings, answer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        prepare(self.settings)
        values = self.settings.values
        self.noise_scale = np.float32(values["noise_scale"])
        self.length_scale = np.float32(1 / float(values["speaking_rate"]))
        self.duration_noise = values["duration_noise"] == "true"

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, lambda row: row, self.infer)

    def infer(self, samples: list[Row], **_: Any) -> list[Outputs]:
        return [{"latents": self.latents(row)} for (row,) in bring_back(self.settings, samples)]

    def latents(self, row: Row) -> np.ndarray:
        spoken = row["attention_mask"].astype(bool)
        durations = np.ceil(np.exp(row["log_durations"][spoken]) * self.length_scale).astype(np.int64)
        if not durations.sum():  # a voice says at least one frame
            means = deviations = np.zeros((1, row["prior_means"].shape[-1]), np.float32)
        else:
            means = np.repeat(row["prior_means"][spoken], durations, axis=0)
            deviations = np.repeat(row["prior_log_variances"][spoken], durations, axis=0)
        return (means + self.noise(int(row["seed"][0]), int(spoken.sum()), means) * np.exp(deviations)).T

    def noise(self, seed: int, letters: int, means: np.ndarray) -> np.ndarray:
        """What the voice draws for its frames, [frames, channels]."""
        if not self.noise_scale:
            return np.zeros_like(means)
        normal = Normal(seed)
        if self.duration_noise:
            normal.draw(2 * letters)
        # The library draws into a transposed tensor, unless that is a row or a column.
        drawn = normal.draw(means.size, contiguous=1 in means.shape)
        return drawn.reshape(means.shape) * self.noise_scale
