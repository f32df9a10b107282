"""Whatever clients do, the sequence table keeps each sequence in one place, in order, and loses no request."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from conch.core.sequence import SequenceTable

#: A sequence and whether this is its last request; or None: the slot whose turn it is has done its work.
ACTIONS = st.lists(st.one_of(st.tuples(st.integers(1, 6), st.booleans()), st.none()), max_size=60)


@given(lanes=st.integers(1, 3), slots=st.integers(1, 3), actions=ACTIONS)
def test_each_request_reaches_one_slot_in_the_order_of_its_sequence(
    lanes: int, slots: int, actions: list[tuple[int, bool] | None]
) -> None:
    table: SequenceTable[tuple[int, int, bool]] = SequenceTable(lanes, slots)
    queues: dict[int, list[tuple[int, int, bool]]] = defaultdict(list)
    executed: list[tuple[int, int, bool]] = []
    sent = 0
    rounds: dict[int, int] = defaultdict(int)  # a sequence that comes after the end of another of its id is a new one

    def work_off(slot: int) -> None:
        while queues[slot]:
            entry = queues[slot].pop(0)
            executed.append(entry)
            if entry[2]:
                assert not queues[slot]  # nothing of another sequence came behind the end of one
                backlog = table.release(slot)
                if backlog is None:
                    break
                queues[slot] += backlog.entries

    for action in actions:
        if action is None:
            for slot in sorted(queues):
                work_off(slot)
            continue
        sequence, end = action
        entry = (sequence + 10 * rounds[sequence], sent, end)
        sent += 1
        rounds[sequence] += end
        slot = table.enter(sequence, entry, end=end)
        assert table.is_open(sequence) != end
        if slot is not None:
            assert 0 <= slot < lanes * slots
            queues[slot].append(entry)
    for slot in sorted(queues):
        work_off(slot)
    for sequence in {which for which, _, _ in executed}:
        numbers = [number for which, number, _ in executed if which == sequence]
        assert numbers == sorted(numbers)
    left = [entry for backlog in table.clear() for entry in backlog.entries]
    assert len(executed) + len(left) == sent
