"""What one connection may cost: sizes, and how often it may do what costs us more than it costs the peer."""

from __future__ import annotations

import msgspec


class Http2Limits(msgspec.Struct, frozen=True):
    """Limits and timings of one connection; times in seconds, infinity for never.

    Attributes:
        max_concurrent_streams: calls a client may have open at once; more are refused.
        max_frame_bytes: the largest frame we accept.
        max_header_list_bytes: decoded size of one header list (name + value + 32 a field).
        stream_window_bytes: what a client may send on a stream before we grant more.
        connection_window_bytes: the same for all streams together.
        max_unwritten_bytes: what may wait for a peer that does not read before it is dropped (control frames and small
            answers; large answers wait as references to tensors and do not count).
        resets_per_s: sustained rate of streams a client may cancel.
        controls_per_s: sustained rate of SETTINGS, PING, PRIORITY and empty frames.
        keepalive_time_s: idle time after which we ping; `keepalive_timeout_s` is how long the answer may take.
        keepalive_without_calls: ping also while no call is open, and let clients do so.
        min_ping_interval_s: clients that ping more often, with nothing sent to them in between, collect a strike.
        max_ping_strikes: strikes before the connection is closed; 0 for any number.
        max_age_s: age after which a connection is drained; its calls get `max_age_grace_s` more.
    """

    max_concurrent_streams: int = 4096
    max_frame_bytes: int = 1 << 20
    max_header_list_bytes: int = 16 << 10
    stream_window_bytes: int = 1 << 20
    connection_window_bytes: int = 64 << 20
    max_unwritten_bytes: int = 64 << 20
    resets_per_s: float = 500.0
    controls_per_s: float = 500.0
    keepalive_time_s: float = 7200.0
    keepalive_timeout_s: float = 20.0
    keepalive_without_calls: bool = False
    min_ping_interval_s: float = 300.0
    max_ping_strikes: int = 2
    max_age_s: float = float("inf")
    max_age_grace_s: float = float("inf")


class RateLimit:
    """A token bucket that holds ten seconds' worth; time is given at every use."""

    __slots__ = ("_capacity", "_rate", "_tokens", "_updated")

    def __init__(self, rate_per_s: float) -> None:
        self._rate = rate_per_s
        self._capacity = rate_per_s * 10
        self._tokens = self._capacity
        self._updated = float("-inf")

    def allow(self, now: float) -> bool:
        """Whether one more event at time `now` (seconds, never going back) is within the rate."""
        if self._updated != float("-inf"):
            self._tokens = min(self._capacity, self._tokens + (now - self._updated) * self._rate)
        self._updated = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class PingStrikes:
    """Counts pings that come too often (gRPC's ping abuse rule, as in its C core)."""

    __slots__ = ("_last", "_limits", "_strikes")

    def __init__(self, limits: Http2Limits) -> None:
        self._limits = limits
        self._last = float("-inf")
        self._strikes = 0

    def forgive(self) -> None:
        """We sent headers or data: the next ping is welcome."""
        self._last = float("-inf")
        self._strikes = 0

    def too_many(self, now: float, streams_open: bool) -> bool:
        """Record a ping at `now`; True when the connection has to be closed for it."""
        limits = self._limits
        interval = limits.min_ping_interval_s
        if not streams_open and not limits.keepalive_without_calls:
            interval = max(interval, 7200.0)
        if now < self._last + interval:
            self._strikes += 1
        self._last = now
        return 0 < limits.max_ping_strikes < self._strikes
