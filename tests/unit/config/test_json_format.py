"""Against configurations recorded from NVIDIA's Triton 2.51 (`GET /v2/models/M/config`), key order included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conch.config import complete
from conch.config.json_format import to_dict, to_json
from conch.config.pbtxt import parse, parse_json

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "triton_configs.json").read_text())


@pytest.mark.parametrize("name", RECORDED)
def test_normalized_configuration_prints_as_triton_prints_it(name: str, tmp_path: Path) -> None:
    directory = tmp_path / name
    for file in RECORDED[name]["files"]:
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (directory / file).touch()
    if RECORDED[name]["config"] is not None:
        (directory / "config.pbtxt").write_text(RECORDED[name]["config"])

    printed = to_json(complete.normalize(complete.load_config(directory), directory))

    expected = RECORDED[name]["json"]
    # The order of map entries is the hash table's own.
    assert json.dumps(_maps_sorted(json.loads(printed))) == json.dumps(_maps_sorted(expected))


def _maps_sorted(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"parameters": dict(sorted(config["parameters"].items()))}


@pytest.mark.parametrize("name", RECORDED)
def test_printed_configuration_reads_back_as_the_same_message(name: str) -> None:
    message = parse_json(json.dumps(RECORDED[name]["json"]))
    assert parse_json(to_json(message)) == message


def test_floats_print_as_the_shortest_decimal_that_reads_back() -> None:
    message = parse("sequence_batching { direct { minimum_slot_utilization: 0.7 } }")
    assert to_dict(message)["sequence_batching"]["direct"]["minimum_slot_utilization"] == 0.7


def test_64_bit_integers_print_as_numbers() -> None:
    message = parse("dynamic_batching { max_queue_delay_microseconds: 5000000000 }")
    assert to_dict(message)["dynamic_batching"]["max_queue_delay_microseconds"] == 5_000_000_000


def test_member_of_a_oneof_prints_only_when_set() -> None:
    message = parse('model_warmup { name: "w" inputs { key: "A" value { zero_data: true } } }')
    printed = to_dict(message)["model_warmup"][0]["inputs"]["A"]
    assert printed == {"data_type": "TYPE_INVALID", "dims": [], "zero_data": True}
