from __future__ import annotations

from pathlib import Path

import pytest

from conch.config.pbtxt import parse
from conch.config.support import SUPPORT, Status, field_paths, fields_with, reference_table, support_of

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "model_configuration.md"


def test_every_field_of_the_proto_has_a_support() -> None:
    for path in field_paths():
        assert support_of(path).note


def test_children_of_honoured_fields_are_listed_one_by_one() -> None:
    unlisted = [
        path
        for path in field_paths()
        if path not in SUPPORT and support_of(path.rpartition(".")[0]).status is Status.HONOURED
    ]
    assert unlisted == []


def test_every_listed_path_is_a_field() -> None:
    assert set(SUPPORT) <= set(field_paths())


def test_field_of_an_unknown_path_has_no_support() -> None:
    with pytest.raises(KeyError, match="nope"):
        support_of("nope.name")


def test_fields_are_found_below_lists_and_maps() -> None:
    message = parse(
        'instance_group { host_policy: "h" } instance_group { host_policy: "i" secondary_devices { device_id: 1 } } '
        "dynamic_batching { priority_queue_policy { key: 1 value { max_queue_size: 1 } } }"
    )
    assert fields_with(message, Status.IGNORED) == ["instance_group.host_policy", "instance_group.secondary_devices"]


def test_fields_at_their_default_are_not_set() -> None:
    assert fields_with(parse("model_transaction_policy { decoupled: false }"), Status.REFUSED) == []


def test_reference_page_shows_the_table() -> None:
    assert reference_table() in REFERENCE.read_text()
