"""`--metrics-config` as a value: which latencies the metrics page shows, and how."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from conch.errors import InvalidArgumentError

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_KINDS = ("counter_latencies", "summary_latencies", "histogram_latencies")


class MetricsOptions(msgspec.Struct, frozen=True):
    """What is shown of the time requests take.

    Attributes:
        counter_latencies: sums of durations, and the counters of models' response caches.
        summary_latencies: quantiles over the last minute.
        summary_quantiles: which.
        histogram_latencies: how long decoupled models take to their first response.
    """

    counter_latencies: bool = True
    summary_latencies: bool = False
    summary_quantiles: tuple[float, ...] = (0.5, 0.9, 0.95, 0.99, 0.999)
    histogram_latencies: bool = False


def parse_metrics_config(texts: Sequence[str]) -> MetricsOptions:
    """The options that `--metrics-config` texts amount to: `<setting>=<value>` each.

    Raises:
        InvalidArgumentError: a text of another form, a setting that there is none of, or a value out of range.
    """
    fields: dict[str, object] = {}
    for text in texts:
        setting, equals, value = text.partition("=")
        if not equals or not setting or "," in setting:
            raise InvalidArgumentError(f"expects <setting>=<value>, e.g. summary_latencies=true, got '{text}'")
        if setting in _KINDS:
            if value.lower() not in _BOOLEANS:
                raise InvalidArgumentError(f"{setting} expects true or false, got '{value}'")
            fields[setting] = _BOOLEANS[value.lower()]
        elif setting == "summary_quantiles":
            fields[setting] = tuple(map(_quantile, value.split(",")))
        else:
            raise InvalidArgumentError(
                f"there is no setting '{setting}', there are {', '.join(_KINDS)} and summary_quantiles"
            )
    return msgspec.structs.replace(MetricsOptions(), **fields)


def _quantile(text: str) -> float:
    """Of `<quantile>:<error>`; the error is checked only, for quantiles are as exact as they can be anyway."""
    quantile, _, error = text.partition(":")
    try:
        numbers = float(quantile), float(error or 0)
    except ValueError:
        numbers = (-1.0, -1.0)
    if not all(0 <= number <= 1 for number in numbers):
        raise InvalidArgumentError(
            f"summary_quantiles expects <quantile>:<error>[,...] with numbers from 0 to 1, got '{text}'"
        )
    return numbers[0]
