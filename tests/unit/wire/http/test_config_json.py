"""Model configurations as JSON, against what Triton 2.51 printed for the same configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as pb

from conch.wire.http.config_json import config_json

_GOLDEN = sorted((Path(__file__).parent / "golden").glob("config_*.json"))


def _comparable(value: Any) -> Any:
    """Numbers in `dims` as numbers (Triton prints one of them as text)."""
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [int(item) if isinstance(item, str) and item.isdigit() else _comparable(item) for item in value]
    return value


@pytest.mark.parametrize("path", _GOLDEN, ids=[path.stem for path in _GOLDEN])
def test_config_json_is_what_triton_prints(path: Path) -> None:
    printed = json.loads(path.read_text())
    message = json_format.ParseDict(printed, pb.ModelConfig())
    document = config_json(message)
    assert _comparable(json.loads(json.dumps(document))) == _comparable(printed)
    assert list(document) == list(printed)


def test_there_are_golden_files() -> None:
    assert len(_GOLDEN) >= 4


def test_an_empty_message_has_every_default() -> None:
    document = config_json(pb.ModelConfig())
    assert document["max_batch_size"] == 0
    assert document["input"] == []
    assert document["parameters"] == {}
    assert "dynamic_batching" not in document


def test_a_field_that_triton_does_not_know_yet_shows_where_it_is_set() -> None:
    message = pb.ModelConfig()
    message.ensemble_scheduling.max_inflight_requests = 3
    assert config_json(message)["ensemble_scheduling"] == {"step": [], "max_inflight_requests": 3}


def test_unknown_enum_numbers_stay_numbers() -> None:
    message = pb.ModelConfig()
    message.input.add().data_type = 99
    assert config_json(message)["input"][0]["data_type"] == 99
