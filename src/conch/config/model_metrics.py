"""`model_metrics` of a model's configuration: the buckets of its histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from conch.config.proto import ModelConfigMessage

#: The one family of metrics that a model can choose the buckets of.
FIRST_RESPONSE = "nv_inference_first_response_histogram_ms"


def first_response_buckets(message: ModelConfigMessage) -> tuple[float, ...]:
    """Upper bounds in ms of the histogram of first responses; () where the configuration has none."""
    for control in message.model_metrics.metric_control:
        if control.metric_identifier.family == FIRST_RESPONSE:
            return tuple(control.histogram_options.buckets)
    return ()


def metric_problems(message: ModelConfigMessage) -> Iterator[str]:
    """Buckets that are none."""
    for control in message.model_metrics.metric_control:
        buckets = control.histogram_options.buckets
        if not all(map(math.isfinite, buckets)) or any(low >= high for low, high in pairwise(buckets)):
            yield (
                f"model_metrics of model {message.name} has buckets {list(buckets)} for "
                f"{control.metric_identifier.family}: expected numbers in ascending order"
            )


def metric_notes(message: ModelConfigMessage) -> Sequence[str]:
    """What of it has no effect, for a warning."""
    families = [control.metric_identifier.family for control in message.model_metrics.metric_control]
    return [
        f"'model_metrics' for '{family}' is ignored: only the buckets of {FIRST_RESPONSE} can be chosen"
        for family in families
        if family != FIRST_RESPONSE
    ]
