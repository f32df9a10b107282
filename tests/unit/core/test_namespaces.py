"""Which model a name means."""

from __future__ import annotations

import pytest

from conch.core.namespaces import Namespaces
from conch.errors import InvalidArgumentError, NotFoundError


def test_without_namespacing_every_name_is_itself() -> None:
    names = Namespaces()
    names.add("", "m")
    assert names.meant("never seen") == "never seen"
    assert names.of_name("m") == ["m"]
    assert names.step("", "m") == ("", "m")
    assert names.steps("", ["m", "n"], []) == {"m", "n"}


def test_a_name_means_the_only_model_that_was_asked_for() -> None:
    names = Namespaces(enabled=True)
    with pytest.raises(InvalidArgumentError, match="Request for unknown model: 'm' is not found"):
        names.meant("m")
    names.add("/a", "m")
    assert names.meant("m") == "/a::m"
    names.add("/b", "m")
    with pytest.raises(InvalidArgumentError, match="There are 2 identifiers of model 'm' in global map"):
        names.meant("m")
    assert names.of_name("m") == ["/a::m", "/b::m"]
    names.forget("/a::m")
    assert names.meant("m") == "/b::m"
    names.forget("/b::m")
    with pytest.raises(NotFoundError, match="Identifier of model 'm' is not found in global map"):
        names.meant("m")


def test_a_step_is_of_its_ensemble_s_namespace_or_the_only_one() -> None:
    names = Namespaces(enabled=True)
    assert names.step("/a", "m") is None
    names.add("/b", "m")
    assert names.step("/a", "m") == ("/b", "m")
    names.add("/a", "m")
    assert names.step("/a", "m") == ("/a", "m")
    assert names.step("/c", "m") is None


def test_models_that_change_a_step_are_those_it_could_become() -> None:
    names = Namespaces(enabled=True)
    assert names.steps("/a", ["m"], ["/a", "/b"]) == {"m", "/a::m", "/b::m"}
    names.add("/b", "m")
    assert names.steps("/a", ["m"], ["/a", "/b"]) == {"/a::m", "/b::m"}
    names.add("/a", "m")
    assert names.steps("/a", ["m"], ["/a", "/b"]) == {"/a::m"}
