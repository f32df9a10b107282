"""The trace extension: settings of the server and of models, read and changed over both protocols."""

from __future__ import annotations

from typing import Any

from ..messages import GrpcRequest, HttpRequest
from .build import get, post, rpc, scenarios

#: The flags of the server these are sent to.
FLAGS = ("--trace-config=triton,file=traces.json", "--trace-config=rate=1000")
SERVER = "/v2/trace/setting"
MODEL = "/v2/models/simple/trace/setting"


def change(settings: Any, path: str = SERVER) -> HttpRequest:
    return post(path, settings)


def trace_setting(model: str = "", **settings: list[str]) -> GrpcRequest:
    return rpc("TraceSetting", {"modelName": model, "settings": {key: {"value": to} for key, to in settings.items()}})


HTTP = scenarios(
    at_start=get(SERVER),
    of_a_model_at_start=get(MODEL),
    of_an_unknown_model=get("/v2/models/nope/trace/setting"),
    of_an_unknown_model_changed=change({"trace_rate": "1"}, "/v2/models/nope/trace/setting"),
    level=change({"trace_level": ["TIMESTAMPS"]}),
    both_levels=change({"trace_level": ["TIMESTAMPS", "TENSORS"]}),
    level_no_list=change({"trace_level": "TIMESTAMPS"}),
    level_unknown=change({"trace_level": ["BAD"]}),
    level_empty=change({"trace_level": []}),
    level_off_and_another=change({"trace_level": ["OFF", "TIMESTAMPS"]}),
    rate_zero_while_on=change({"trace_rate": "0"}),
    level_null=change({"trace_level": None}),
    rate=change({"trace_rate": "1"}),
    rate_number=change({"trace_rate": 1}),
    rate_no_number=change({"trace_rate": "x"}),
    rate_negative=change({"trace_rate": "-1"}),
    rate_list=change({"trace_rate": ["1"]}),
    rate_too_large=change({"trace_rate": "99999999999999"}),
    count=change({"trace_count": "5"}),
    count_number=change({"trace_count": 5}),
    count_negative=change({"trace_count": "-2"}),
    count_no_limit=change({"trace_count": "-1"}),
    count_no_number=change({"trace_count": "x"}),
    frequency=change({"log_frequency": "3"}),
    frequency_number=change({"log_frequency": 3}),
    frequency_no_number=change({"log_frequency": "x"}),
    file=change({"trace_file": "x.json"}),
    mode=change({"trace_mode": "opentelemetry"}),
    unknown_setting=change({"unknown": "x"}),
    nothing=change({}),
    a_list=change([]),
    empty_body=post(SERVER),
    another_method=HttpRequest("PUT", SERVER),
    model_follows_the_server=get(MODEL),
    model_rate=change({"trace_rate": "7"}, MODEL),
    server_keeps_its_own=get(SERVER),
    server_rate_and_count=change({"trace_rate": "9", "trace_count": "2"}),
    model_keeps_its_rate_and_follows_in_the_rest=get(MODEL),
    model_rate_cleared=change({"trace_rate": None}, MODEL),
    model_off=change({"trace_level": ["OFF"]}, MODEL),
    server_on=change({"trace_level": ["TENSORS"]}),
    model_stays_off=get(MODEL),
    model_cleared=change({"trace_level": None, "trace_count": None, "log_frequency": None}, MODEL),
    server_cleared=change({"trace_level": None, "trace_rate": None, "trace_count": None, "log_frequency": None}),
    at_the_end=get(SERVER),
)

GRPC = scenarios(
    at_start=trace_setting(),
    of_a_model=trace_setting("simple"),
    of_an_unknown_model=trace_setting("nope"),
    level=trace_setting(trace_level=["TIMESTAMPS"]),
    level_unknown=trace_setting(trace_level=["BAD"]),
    level_off_and_another=trace_setting(trace_level=["OFF", "TENSORS"]),
    rate_zero_while_on=trace_setting(trace_rate=["0"]),
    level_cleared=trace_setting(trace_level=[]),
    rate_no_number=trace_setting(trace_rate=["x"]),
    rate_two_values=trace_setting(trace_rate=["1", "2"]),
    rate_too_large=trace_setting(trace_rate=["99999999999999"]),
    rate_negative=trace_setting(trace_rate=["-4"]),
    count_negative=trace_setting(trace_count=["-2"]),
    count_no_number=trace_setting(trace_count=["q"]),
    frequency=trace_setting(log_frequency=["4"]),
    file=trace_setting(trace_file=["x"]),
    unknown_setting=trace_setting(unknown=["1"]),
    model_count=trace_setting("simple", trace_count=["4"]),
    model_count_cleared=trace_setting("simple", trace_count=[]),
    at_the_end=trace_setting(),
)
