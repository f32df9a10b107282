"""Which ensembles use which models."""

from __future__ import annotations

from conch.core.dependencies import Dependencies, loading_order


def known() -> Dependencies:
    """outer -> inner -> step, and other -> step."""
    dependencies = Dependencies()
    dependencies.set("outer", frozenset({"inner"}))
    dependencies.set("inner", frozenset({"step"}))
    dependencies.set("other", frozenset({"step"}))
    dependencies.set("step", frozenset())
    return dependencies


def test_a_change_concerns_users_of_users_and_steps_come_first() -> None:
    concerned = list(known().concerned(["step"]))
    assert sorted(concerned) == ["inner", "other", "outer"]
    assert concerned.index("inner") < concerned.index("outer")
    assert known().concerned(["outer"]) == []


def test_users_are_those_that_name_the_model_themselves() -> None:
    assert known().users("step") == ["inner", "other"]


def test_what_is_dropped_concerns_nobody_and_waits_no_more() -> None:
    dependencies = known()
    dependencies.waiting["inner"] = "why"
    dependencies.drop("inner")
    assert dependencies.concerned(["step"]) == ["other"]
    assert dependencies.waiting == {}


def test_a_circle_is_found_from_everyone_who_leads_into_it() -> None:
    dependencies = known()
    assert dependencies.cycle_of("outer") == ""
    dependencies.set("step", frozenset({"inner"}))
    for name in ("outer", "inner", "step", "other"):
        assert dependencies.cycle_of(name) == "'inner' -> 'step' -> 'inner'"


def test_models_in_a_circle_load_last_and_each_once() -> None:
    needs = {"a": frozenset("b"), "b": frozenset("a"), "c": frozenset("d"), "d": frozenset()}
    assert loading_order(needs) == ["d", "c", "a", "b"]
