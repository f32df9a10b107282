"""Waiting until a scheduler has nothing under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Drain:
    """Those who wait for the last request of a scheduler.

    Attributes:
        awaited: whether there is anybody to tell: schedulers look before they call, which requests do all the time.
    """

    __slots__ = ("_empty", "awaited")

    def __init__(self) -> None:
        self.awaited = False
        self._empty = asyncio.Event()

    async def wait(self, under_way: Callable[[], int]) -> None:
        """Wait until that is 0; requests that come meanwhile are waited for, too."""
        while under_way():
            self.awaited = True
            self._empty.clear()
            await self._empty.wait()

    def tell(self) -> None:
        """Nothing is under way."""
        self.awaited = False
        self._empty.set()
