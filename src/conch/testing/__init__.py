"""Public fakes and builders for tests: of conch itself, and of backends others write."""

from conch.testing.backends import EchoBackend, FailingBackend, SlowBackend
from conch.testing.clock import FakeClock
from conch.testing.repository import ModelRepositoryBuilder

__all__ = ["EchoBackend", "FailingBackend", "FakeClock", "ModelRepositoryBuilder", "SlowBackend"]
