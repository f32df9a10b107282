"""The future of a request that is traced: it notes how the request ended."""

from __future__ import annotations

import asyncio

from conch.core.queue import RequestFuture
from conch.inference import InferResponse
from conch.trace import RequestTrace


class TracedFuture(RequestFuture):
    """A `RequestFuture` that tells the trace of its request. Untraced requests have the plain one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, trace: RequestTrace) -> None:
        super().__init__(loop=loop)
        self._trace = trace

    def set_result(self, result: InferResponse) -> None:
        """Settle with a response."""
        self._trace.answered(result.outputs)
        super().set_result(result)

    def set_exception(self, exception: type | BaseException) -> None:
        """Settle with an error."""
        self._trace.answered((), str(exception) or "error")
        super().set_exception(exception)

    def cancel(self, msg: object = None) -> bool:
        """Cancel the request."""
        if not super().cancel(msg):
            return False
        self._trace.answered((), "request was cancelled")
        return True
