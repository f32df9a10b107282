"""Load in the head of a reply: the header that load balancers ask for in the ORCA format.

A client sends `endpoint-load-metrics-format: text` or `json` with an inference, and reads `endpoint-load-metrics` of
the answer. As in Triton the load is that of a key-value cache, which the model itself reports as custom metrics under
the names of the TensorRT-LLM backend.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial

import msgspec

from conch.core.metrics import Family
from conch.wire.http.endpoints import Endpoint
from conch.wire.http.json_text import encode_json
from conch.wire.http.messages import HttpRequest, Outcome, Pending, Reply, Streamed
from conch.wire.http.router import Route

_log = logging.getLogger(__name__)

REQUEST_HEADER = b"endpoint-load-metrics-format"
REPLY_HEADER = "endpoint-load-metrics"

#: The family that holds the sizes of a key-value cache, and the label that tells its samples apart.
CACHE_FAMILY = "nv_trt_llm_kv_cache_block_metrics"
_CACHE_LABEL = "kv_cache_block_type"


class CacheLoad(msgspec.Struct, frozen=True):
    """What a key-value cache holds and could hold.

    Attributes:
        utilization: share of its blocks that is in use, 0.0 to 1.0.
        max_tokens: tokens that all of its blocks hold.
    """

    utilization: float
    max_tokens: int


def cache_load(families: Iterable[Family]) -> CacheLoad | None:
    """The load that models report; None where one of its three numbers is missing or negative.

    Of several models that report it, the last one in the order of the metrics page counts.
    """
    sizes: dict[str, float] = {}
    for family in families:
        if family.name == CACHE_FAMILY:
            sizes.update((dict(labels).get(_CACHE_LABEL, ""), value) for labels, value in family.values.items())
    used, most, tokens = (sizes.get(kind, -1.0) for kind in ("used", "max", "tokens_per"))
    if not (0 <= used < float("inf") and 0 <= most < float("inf") and 0 <= tokens < float("inf")):
        return None
    return CacheLoad(used / most if most else 0.0, int(most * tokens))


def report(load: CacheLoad, form: str) -> str | None:
    """The header's value in the form "text" or "json"; None for any other."""
    if form == "text":
        return (
            f"TEXT named_metrics.kv_cache_utilization={load.utilization:f}, "
            f"named_metrics.max_token_capacity={load.max_tokens}"
        )
    if form == "json":
        named = {"kv_cache_utilization": load.utilization, "max_token_capacity": load.max_tokens}
        return "JSON " + encode_json({"named_metrics": named}).decode()
    return None


def reporting(endpoint: Endpoint, families: Iterable[Family]) -> Endpoint:
    """The endpoint, whose replies tell the load at the moment they are made to clients that ask for it."""

    def answer(request: HttpRequest, route: Route) -> Outcome:
        form = request.headers.get(REQUEST_HEADER)
        outcome = endpoint(request, route)
        return outcome if form is None else _with_report(families, form.decode("latin-1"), outcome)

    return answer


def _with_report(families: Iterable[Family], form: str, outcome: Outcome) -> Outcome:
    if isinstance(outcome, Pending):
        finish, recover = outcome.finish, outcome.recover
        report_in = partial(_with_report, families, form)
        return Pending(
            outcome.awaitable,
            lambda value: report_in(finish(value)),
            None if recover is None else lambda error: report_in(recover(error)),
        )
    load = cache_load(families)
    value = None if load is None else report(load, form)
    if value is None:
        what = f"'{form}' is neither text nor json" if load is not None else f"no model reports {CACHE_FAMILY}"
        _log.error("a client asks for the load in the header %s, but %s", REQUEST_HEADER.decode(), what)
        return outcome
    line = f"\r\n{REPLY_HEADER}: {value}\r\n".encode()
    head = outcome.head.replace(b"\r\n", line, 1)
    return (
        Streamed(head, outcome.pieces) if isinstance(outcome, Streamed) else Reply(head, outcome.length, outcome.parts)
    )
