"""The names of shared memory objects: those of the golden files, and those of the process that replays them."""

from __future__ import annotations

import struct

import msgspec

from ..posix_memory import PREFIX
from .messages import Answer, Request

#: What the names begin with in scenarios and golden files.
WRITTEN = "/wire-compat-"

#: Objects that requests name, and what they hold when the server starts.
CONTENTS = {
    f"{PREFIX}in": struct.pack("<16i", *range(16)) + struct.pack("<16i", *[1] * 16),
    f"{PREFIX}out": bytes(128),
}


def with_own_names(request: Request) -> Request:
    """The request that names the objects of this process."""
    if WRITTEN not in repr(request):
        return request
    return msgspec.json.decode(renamed(msgspec.json.encode(request), WRITTEN, PREFIX), type=Request)


def with_written_names(answer: Answer) -> Answer:
    """The answer as it would have been with the names of the golden files."""
    if PREFIX not in repr(answer):
        return answer
    return msgspec.json.decode(renamed(msgspec.json.encode(answer), PREFIX, WRITTEN), type=Answer)


def renamed(document: bytes, old: str, new: str) -> bytes:
    return document.replace(old.encode(), new.encode())
