"""Which executions are expected to be quick enough for the event loop."""

from __future__ import annotations

from conch.backends.quick import QUICK_NS, Quickness


def learned(*executions: tuple[int, int], on_loop: bool = False) -> Quickness:
    """After these executions: size of the inputs, nanoseconds."""
    quickness = Quickness()
    for byte_size, duration_ns in executions:
        quickness.took(byte_size, duration_ns, on_loop=on_loop)
    return quickness


def test_nothing_is_expected_of_a_model_that_has_not_shown_it() -> None:
    assert not learned().expects(0)
    assert not learned(*[(16, QUICK_NS)] * 7).expects(16)
    assert learned(*[(16, QUICK_NS)] * 8).expects(16)


def test_inputs_larger_than_those_known_are_not_expected_to_be_quick_until_they_were() -> None:
    quickness = learned(*[(16, 1)] * 8)
    assert not quickness.expects(17)
    quickness.took(64, 1, on_loop=False)
    assert quickness.expects(64)
    assert not quickness.expects(65)


def test_slow_executions_of_larger_inputs_say_nothing_of_small_ones() -> None:
    assert learned(*[(16, 1), (1000, 10 * QUICK_NS)] * 8).expects(16)


def test_one_slow_execution_among_many_quick_ones_is_forgiven() -> None:
    quickness = learned(*[(16, 1)] * 16)
    quickness.took(16, 3 * QUICK_NS, on_loop=True)
    assert quickness.expects(16)
    quickness.took(16, 3 * QUICK_NS, on_loop=True)
    assert not quickness.expects(16)


def test_every_other_execution_slow_is_not_quick() -> None:
    quickness = learned(*[(16, 1), (16, 2 * QUICK_NS)] * 20, (16, 1))
    assert not quickness.expects(16)


def test_a_long_stop_of_the_event_loop_is_remembered() -> None:
    quick = [(16, 1)] * 16
    stopped = learned(*quick, (16, 100 * QUICK_NS), on_loop=True)
    elsewhere = learned(*quick, (16, 100 * QUICK_NS), on_loop=False)
    for _ in range(16):
        stopped.took(16, 1, on_loop=False)
        elsewhere.took(16, 1, on_loop=False)
    assert elsewhere.expects(16)
    assert not stopped.expects(16)
    for _ in range(256):
        stopped.took(16, 1, on_loop=False)
    assert stopped.expects(16)
