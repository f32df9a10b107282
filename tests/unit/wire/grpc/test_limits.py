"""Rates and ping strikes, without a clock."""

from __future__ import annotations

from conch.wire.grpc.http2.limits import Http2Limits, PingStrikes, RateLimit


def test_rate_limit_allows_ten_seconds_worth_at_once_and_then_its_rate() -> None:
    limit = RateLimit(2.0)
    assert [limit.allow(100.0) for _ in range(21)] == [True] * 20 + [False]
    assert [limit.allow(101.0) for _ in range(3)] == [True, True, False]
    assert limit.allow(101.5)


def test_rate_limit_never_holds_more_than_ten_seconds_worth() -> None:
    limit = RateLimit(1.0)
    assert limit.allow(0.0)
    assert sum(limit.allow(1e6) for _ in range(50)) == 10


def test_third_hasty_ping_is_one_too_many() -> None:
    strikes = PingStrikes(Http2Limits(min_ping_interval_s=300, max_ping_strikes=2))
    assert [strikes.too_many(float(at), True) for at in (0, 1, 2, 3)] == [False, False, False, True]


def test_pings_at_the_allowed_pace_are_no_strikes() -> None:
    strikes = PingStrikes(Http2Limits(min_ping_interval_s=300, max_ping_strikes=2))
    assert not any(strikes.too_many(300.0 * n, True) for n in range(20))


def test_pings_without_calls_are_allowed_only_on_request() -> None:
    for allowed in (True, False):
        limits = Http2Limits(min_ping_interval_s=10, max_ping_strikes=1, keepalive_without_calls=allowed)
        strikes = PingStrikes(limits)
        assert any(strikes.too_many(10.0 * n, False) for n in range(5)) is not allowed


def test_answers_forgive_strikes() -> None:
    strikes = PingStrikes(Http2Limits(max_ping_strikes=1))
    for _ in range(20):
        assert not strikes.too_many(0.0, True)
        strikes.forgive()


def test_zero_strikes_mean_any_number() -> None:
    strikes = PingStrikes(Http2Limits(max_ping_strikes=0))
    assert not any(strikes.too_many(0.0, True) for _ in range(100))
