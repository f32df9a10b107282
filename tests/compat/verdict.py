"""What of an answer differs from the golden one, and what of that nobody has accounted for."""

from __future__ import annotations

import re

from .compare import differences
from .differences import ON_PURPOSE
from .messages import Answer, Exchange
from .normalise import comparable


def found(exchange: Exchange, answer: Answer) -> list[str]:
    """All differences, one line each."""
    return differences(exchange.scenario, comparable(exchange.answer), comparable(answer))


def unexplained(group: str, exchange: Exchange, answer: Answer) -> list[str]:
    """Those that are not on purpose."""
    purpose = ON_PURPOSE.get((group, exchange.scenario.name))
    lines = found(exchange, answer)
    return [line for line in lines if purpose is None or not re.fullmatch(purpose.lines, line, re.DOTALL)]
