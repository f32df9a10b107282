"""The rate limiter: models that cannot have their resources, and two that share one."""

from __future__ import annotations

from ..messages import Concurrent, Scenario
from .build import get, post
from .queues import slow

RATES = [
    Scenario("more than there is", post("/v2/repository/models/global/load")),
    Scenario("as much as there is", post("/v2/repository/models/one/load")),
    Scenario("its configuration", get("/v2/models/one/config")),
    Scenario("requests one after the other", Concurrent([slow(0.5, "one"), slow(0.0, "one")], interval_s=0.1)),
]
