"""`--metrics-config`, and `model_metrics` of a model's configuration."""

from __future__ import annotations

import pytest

from conch.config import pbtxt, validate
from conch.config.metrics_options import MetricsOptions, parse_metrics_config
from conch.config.model_metrics import metric_notes
from conch.config.proto import ModelConfigMessage
from conch.errors import InvalidArgumentError

BUCKETS = """
name: "m" backend: "python"
input { name: "X" data_type: TYPE_FP32 dims: 1 }
output { name: "Y" data_type: TYPE_FP32 dims: 1 }
model_metrics { metric_control {
  metric_identifier { family: "FAMILY" }
  histogram_options { buckets: [ NUMBERS ] }
} }
"""
FIRST = "nv_inference_first_response_histogram_ms"


def message(family: str, numbers: str) -> ModelConfigMessage:
    return pbtxt.parse(BUCKETS.replace("FAMILY", family).replace("NUMBERS", numbers))


def test_what_is_not_said_stays_as_it_is() -> None:
    assert parse_metrics_config([]) == MetricsOptions()
    texts = ["summary_latencies=true", "counter_latencies=False", "summary_quantiles=0.5:0.05,0.9,1:0"]
    assert parse_metrics_config(texts) == MetricsOptions(
        counter_latencies=False, summary_latencies=True, summary_quantiles=(0.5, 0.9, 1.0)
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("summary_latencies", "expects <setting>=<value>"),
        ("local,summary_latencies=true", "expects <setting>=<value>"),
        ("=true", "expects <setting>=<value>"),
        ("summary_latencies=maybe", "summary_latencies expects true or false, got 'maybe'"),
        ("latencies=true", "there is no setting 'latencies', there are counter_latencies"),
        ("summary_quantiles=", "got ''"),
        ("summary_quantiles=0.5:x", "numbers from 0 to 1, got '0.5:x'"),
        ("summary_quantiles=0.5:0.1,1.5:0.1", "numbers from 0 to 1, got '1.5:0.1'"),
        ("summary_quantiles=nan:0.1", "numbers from 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgumentError, match=problem):
        parse_metrics_config([text])


def test_a_model_has_buckets_of_its_own() -> None:
    config = pbtxt.from_message(message(FIRST, "-1, 0, 2.5"))
    assert config.first_response_buckets == (-1, 0, 2.5)
    assert metric_notes(config.message) == []
    assert pbtxt.from_message(message("other", "1")).first_response_buckets == ()


@pytest.mark.parametrize("numbers", ["2, 1", "1, 1", "nan, 1", "inf", "nan"])
def test_buckets_are_numbers_and_ascend(numbers: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected numbers in ascending order"):
        validate.check(message(FIRST, numbers), complete=False)


def test_other_families_are_told_to_have_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    validate.validate(pbtxt.from_message(message("nv_other", "1, 2")))
    assert f"'model_metrics' for 'nv_other' is ignored: only the buckets of {FIRST} can be chosen" in caplog.text
