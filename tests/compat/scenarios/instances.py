"""Configurations that differ in their instances alone: what serves goes on, with its statistics."""

from __future__ import annotations

from typing import Any

from .build import get, infer, settled, tensor
from .control import identity_config, load

ASK = infer("identity_fp32", {"inputs": [tensor("INPUT0", "FP32", [1, 1], [1.5])]})
STATISTICS = get("/v2/models/identity_fp32/stats")


def with_group(count: int, **changes: Any) -> str:
    return identity_config(instance_group=[{"count": count, "kind": "KIND_CPU", **changes.pop("group", {})}], **changes)


UPDATES = settled(
    load_two=load("identity_fp32", config=with_group(2)),
    infer_two=ASK,
    load_two_again=load("identity_fp32", config=with_group(2)),
    statistics_of_two=STATISTICS,
    load_three=load("identity_fp32", config=with_group(3)),
    config_of_three=get("/v2/models/identity_fp32/config"),
    infer_three=ASK,
    statistics_of_three=STATISTICS,
    load_one=load("identity_fp32", config=with_group(1)),
    infer_one=ASK,
    statistics_of_one=STATISTICS,
    load_one_of_another_name=load("identity_fp32", config=with_group(1, group={"name": "other"})),
    config_of_another_name=get("/v2/models/identity_fp32/config"),
    statistics_of_another_name=STATISTICS,
    load_two_of_another_batch_size=load("identity_fp32", config=with_group(2, max_batch_size=4)),
    statistics_of_another_batch_size=STATISTICS,
)
