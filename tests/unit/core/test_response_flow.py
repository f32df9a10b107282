"""Who waits until responses were taken."""

from __future__ import annotations

from conch.core.response_flow import ResponseFlow


def test_who_waits_is_called_once_so_many_responses_were_taken() -> None:
    flow, told = ResponseFlow(), list[tuple[str, int]]()
    flow.when_taken(0, lambda taken: told.append(("at once", taken)))
    flow.when_taken(2, lambda taken: told.append(("two", taken)))
    flow.when_taken(1, lambda taken: told.append(("one", taken)))
    assert told == [("at once", 0)]
    flow.take()
    assert told == [("at once", 0), ("one", 1)]
    flow.take()
    assert told == [("at once", 0), ("one", 1), ("two", 2)]
    flow.when_taken(1, lambda taken: told.append(("late", taken)))
    assert told[-1] == ("late", 2)


def test_nobody_waits_for_responses_that_nobody_takes() -> None:
    flow, told = ResponseFlow(), list[int]()
    flow.when_taken(3, told.append)
    flow.end()
    flow.when_taken(5, told.append)
    assert told == [3, 5]
