"""What parent and child say to each other, and how it is framed.

Four stream sockets join them. On `control` the parent asks and the child answers, one message each way at a time. On
`calls` the child speaks first, from any thread: log lines, metrics, responses that a model sends by itself, requests
to other models. On `checks` the parent asks, with an empty message, whether the model is ready, and the child answers
(ready, what is wrong or ""). On `files` come descriptors (see `loans`).

A message is a plain tuple in `marshal` format 4 behind a 4-byte little-endian length. marshal is the fastest codec in
the standard library (0.2 us a small request each way; half of pickle's time), holds data only, copies any buffer
straight into the message, writes a repeated name once, and format 4 is read alike by every CPython since 3.4. It does
not defend against forged bytes: both ends of the socketpair are this program, and the parent checks the shape of what
arrives. A large tensor stays out of messages: there its data is a place in shared memory (see `memory`).

Requests of the parent (first item) and their answers:

    (IMPORT,)                           -> (OK, None)
    (COMPLETE, config JSON)             -> (OK, completed config JSON, or None where the model completes nothing)
    (INITIALIZE, args, output names, decoupled) -> (OK, whether the model has `is_ready`)
    (EXECUTE, requests, input segment or None, released output segments, number of the execution or -1, loans,
     of a decoupled model the requests' windows)
                                        -> (OK, responses, inputs kept, retired output segments, start ns, end ns,
                                            returned loans)
    (FINALIZE,)                         -> (OK, None)
    any                                 -> (FAILED, code, one-line cause, traceback or "")

    request   (inputs, id, correlation id, flags, timeout us, parameters or None, requested outputs or None)
    response  (None, outputs, parameters or None) or (code, message, None), in an answer to EXECUTE also LEFT_OPEN (the
              model answers by itself; not if the execution has no number) or RESCHEDULED
    tensor    (name, datatype, shape, data)
    data      bytes, or (segment, size of segment, start, length) in shared memory, or (number of a loan, start, length)
    window    how many responses to the request the model may be ahead of those who take them; 0 for any number
    loan      (number, file, segment, size of segment): lent to the child (see `loans`) until it returns the number
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Callable
from typing import Any

IMPORT, COMPLETE, INITIALIZE, EXECUTE, FINALIZE = range(5)

OK, FAILED = range(2)

#: What an answer to EXECUTE may say of a request in place of a response.
LEFT_OPEN, RESCHEDULED = range(2)

#: Calls of the child without an answer. The number of the execution and the position in it name a request.
#:
#:     (RESPONSE, execution, position, final, response or None, returned loans)
#:     (EXECUTION_FAILED, execution, one-line cause, traceback or "")
#:     (GIVE_UP, number of an INFER call)
LOG, METRIC_ADD, METRIC_SET, METRIC_OBSERVE, RESPONSE, EXECUTION_FAILED, GIVE_UP = range(7)

#: Calls with answers; the number the child gave the call follows the kind. The parent answers (number, True, OK, value)
#: or (number, True, FAILED, message), and to INFER any number of (number, final, OK, response, input segment or None,
#: retired input segments, released output segments, loans), where the response may be None in the last one.
#:
#:     (CANCELLED, number, execution, position)
#:     (INFER, number, request, model name, model version, decoupled, released input segments, returned loans, execution
#:              and position of the request that it is traced as a part of, or None)
#:     (TRACE_CONTEXT, number, execution, position)
#:     (TAKEN, number, execution, position, count): answered once so many responses to the request are taken, with how
#:              many are
#:     (LOAD_MODEL, number, name, config or None, files), (UNLOAD_MODEL, number, name, unload dependents)
#:     (MODEL_READY, number, name, version)
METRIC_DECLARE, METRIC_VALUE, CANCELLED, INFER, LOAD_MODEL, UNLOAD_MODEL, MODEL_READY, TRACE_CONTEXT, TAKEN = range(
    16, 25
)

#: In place of a number: (RELEASED, output segments the parent looks at no more).
RELEASED = 0

#: A tensor of more bytes rides in shared memory: below this a copy through the socket costs less than mapping.
INLINE_TENSOR_BYTES = 32 << 10

#: How many tensor bytes one message may carry before the rest rides in shared memory whatever its size.
INLINE_MESSAGE_BYTES = 128 << 10

_LENGTH = struct.Struct("<I")

HEADER_BYTES = _LENGTH.size


def encode(message: tuple[Any, ...]) -> bytes:
    """The frame of a message."""
    payload = marshal.dumps(message, 4)
    return _LENGTH.pack(len(payload)) + payload


class BrokenStreamError(ValueError):
    """What came is no message of ours."""


class FrameReader:
    """Cuts a byte stream into messages and hands each to `on_message`, whose errors are its caller's."""

    def __init__(self, on_message: Callable[[Any], None]) -> None:
        self._on_message = on_message
        self._pending = bytearray()
        self._expected = HEADER_BYTES

    def feed(self, data: bytes | memoryview) -> None:
        """Take what was received.

        Raises:
            BrokenStreamError: the stream holds no message of ours.
        """
        if not self._pending:
            # The usual case: one whole message in one read, decoded where it lies.
            size = len(data)
            if size >= HEADER_BYTES:
                expected = HEADER_BYTES + _LENGTH.unpack_from(data)[0]
                if size == expected:
                    self._on_message(_decoded(memoryview(data)[HEADER_BYTES:]))
                    return
        self._pending += data
        if len(self._pending) < self._expected:
            return
        received, start = bytes(self._pending), 0
        while start + HEADER_BYTES <= len(received):
            end = start + HEADER_BYTES + _LENGTH.unpack_from(received, start)[0]
            self._expected = end - start
            if end > len(received):
                break
            frame = memoryview(received)[start + HEADER_BYTES : end]
            start, self._expected = end, HEADER_BYTES
            self._on_message(_decoded(frame))
        self._pending = bytearray(memoryview(received)[start:])


def _decoded(payload: memoryview) -> Any:
    try:
        return marshal.loads(payload)
    except (ValueError, EOFError, TypeError) as error:
        raise BrokenStreamError(str(error)) from error
