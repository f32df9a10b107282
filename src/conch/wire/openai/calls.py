"""Pieces of text in which functions may be called, as pieces that say so."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

import msgspec

from conch.wire.openai.texts import Piece
from conch.wire.openai.tool_calls import Found, ToolCall, new_id
from conch.wire.openai.tools import Calling


async def with_calls(parts: AsyncGenerator[Piece, None], calling: Calling) -> AsyncGenerator[Piece, None]:
    """The pieces, with calls taken out of their texts. Closing it closes `parts`.

    Raises:
        ConchError: as the pieces do.
    """
    splitter = calling.splitter()
    count, finished = 0, False

    def made(piece: Piece, found: Iterable[Found]) -> Piece:
        nonlocal count
        items = list(found)
        calls = [ToolCall(count + index, new_id(), *each) for index, each in enumerate(_calls(items))]
        count += len(calls)
        text = "".join(each for each in items if isinstance(each, str))
        reason = piece.finish_reason
        if finished and count and not calling.named and reason in ("", "stop"):
            reason = "tool_calls"
        return msgspec.structs.replace(piece, text=text, calls=calls, finish_reason=reason)

    try:
        async for piece in parts:
            found = list(splitter.feed(piece.text))
            if piece.finish_reason:
                finished = True
                found += splitter.end()
            yield made(piece, found)
        if not finished:
            finished = True
            yield made(Piece(""), splitter.end())
    finally:
        await parts.aclose()


def _calls(items: list[Found]) -> list[tuple[str, str]]:
    return [each for each in items if not isinstance(each, str)]
