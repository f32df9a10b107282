"""The child's stdout and stderr, line by line into the log."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable

_READ_BYTES = 1 << 16

#: A longer line is cut: a model that prints without newlines must not fill the server's memory.
_MAX_LINE_BYTES = 1 << 16

#: How often the pipe is read once the child ended.
_LAST_READS = 64

_LINE_END = re.compile(rb"[\r\n]+")  # progress bars end their lines with \r alone


class OutputLines:
    """Reads a pipe on the event loop; `descriptor` (its read end) is owned from now on."""

    def __init__(self, descriptor: int, on_line: Callable[[str], None]) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._on_line = on_line
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._loop.add_reader(descriptor, self._read)

    def close(self) -> None:
        """Hand on what is there already, then stop reading. Idempotent."""
        for _ in range(_LAST_READS):  # bounded: a process that the model left behind may print for ever
            if not self._open or not self._read():
                break
        if self._open:
            self._stop()

    def _read(self) -> bool:
        """Read once; whether anything was there."""
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._stop()
            return False
        *lines, self._rest = _LINE_END.split(self._rest + data)
        for line in lines:
            self._emit(line)
        if len(self._rest) > _MAX_LINE_BYTES:
            self._emit(self._rest)
            self._rest = b""
        return True

    def _emit(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self._on_line(text)

    def _stop(self) -> None:
        self._open = False
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._emit(self._rest)
        self._rest = b""
