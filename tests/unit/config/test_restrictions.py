from __future__ import annotations

import pytest

from conch.config.platforms import parse_port_range
from conch.config.restrictions import Restriction, parse_restrictions
from conch.errors import InvalidArgumentError


def test_categories_of_all_texts_are_gathered() -> None:
    found = parse_restrictions(["health,metadata:k=v", "trace:x:y=a=b"], "api")
    rule = Restriction("k", "v")
    assert found == {"health": rule, "metadata": rule, "trace": Restriction("x:y", "a=b")}


@pytest.mark.parametrize("text", ["", "health", "health:", "health:k", "health:k=", "health:=v", ":k=v", "k=v"])
def test_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_restrictions([text], "protocol")
    assert caught.value.message == f"expected <protocol>[,<protocol>...]:<key>=<value>, got '{text}'"


@pytest.mark.parametrize("text", ["nope:k=v", "health, trace:k=v", "health,:k=v", "Health:k=v"])
def test_unknown_category_is_refused_and_those_there_are_named(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"unknown restricted api '.*'; those that can be are health, "):
        parse_restrictions([text], "api")


@pytest.mark.parametrize("texts", [["health:a=b", "health:a=b"], ["health,health:a=b"]])
def test_category_named_twice_is_refused(texts: list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match="'health' can not be specified in multiple config groups"):
        parse_restrictions(texts, "api")


def test_port_range_has_both_ends() -> None:
    assert parse_port_range("8000-8002") == range(8000, 8003)
    for text in ("", "8000", "8000-", "-8000", "a-b", "8002-8000"):
        with pytest.raises(InvalidArgumentError):
            parse_port_range(text)
