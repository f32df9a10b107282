"""Numbers and dates in texts, and how they compare: what a network of tables (TAPAS) is told of its cells.

A value is a float, or a date: year, month and day, None for what is not said.
"""

from __future__ import annotations

import datetime
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Date = tuple[float | None, float | None, float | None]
Value = float | Date
Key = Callable[[Value], Any]

_DIGITS = re.compile(r"(?:(?:^|\s)[+-])?(?:\.\d+|\d+(?:,\d{3})*(?:\.\d*)?)")
_WORDS = {
    word: float(number)
    for words in (
        "zero one two three four five six seven eight nine ten eleven twelve",
        "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
    )
    for number, word in enumerate(words.split())
}
_ORDINAL = re.compile("(?:st|nd|rd|th)$")
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_MONTH_NUMBERS = {name: number for number, month in enumerate(_MONTHS, 1) for name in (month, month[:3])}
_WEEKDAYS = frozenset(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"))
_WORDS_OF_DATE = 5
_YEARS = range(1700, 2017)
_YEAR_UNSAID = 1900
#: A column has numbers or dates if so many of its cells have.
_SHARE = 0.7


def _forms() -> list[re.Pattern[str]]:
    """The ways to write a date. A name is a month's whole or its first three letters."""
    fields = {
        "Y": r"(?P<year>\d{4})",
        "M": r"(?P<name>\w+)",
        "N": r"(?P<month>1[0-2]|0[1-9]|[1-9])",
        "D": r"(?P<day>3[01]|[12]\d|0[1-9]|[1-9])",
        "W": r"(?P<weekday>\w+)",
        "_": r"\s+",
    }
    written = ("M", "Ys?", "M_Y", "M_D", "D_M", "M_D,_Y", "D_M_Y", "N-D-Y", "Y-N-D", "Y-N", "D[.]N[.]Y", "W,_M_D")
    return [re.compile("".join(fields.get(letter, letter) for letter in form)) for form in written]


_FORMS = _forms()


def normal(text: str) -> str:
    """Lower case, one space between words."""
    return " ".join(text.lower().split())


def values(text: str) -> list[Value]:
    """The numbers and dates of a normal text, in its order; of overlapping ones those that are written longest."""
    found: dict[tuple[int, int], list[Value]] = {}
    for match in _DIGITS.finditer(text):
        if (number := to_number(match[0])) is not None:
            found[match.span()] = [number]
    for place in _spans(text, 1):
        if place in found:
            continue
        word = text[slice(*place)]
        numbers = [number for number in (to_number(word), _WORDS.get(word)) if number is not None]
        if numbers:
            found[place] = list(numbers)
    for place in _spans(text, _WORDS_OF_DATE):
        if (date := to_date(text[slice(*place)])) is not None:
            found.setdefault(place, []).append(date)
    kept: list[tuple[int, int]] = []
    for begin, end in sorted(found, key=lambda place: (place[0] - place[1], place[0])):
        if not any(first <= begin and end <= last for first, last in kept):
            kept.append((begin, end))
    return [value for place in sorted(kept) for value in found[place]]


def _spans(text: str, longest: int) -> Iterator[tuple[int, int]]:
    """Where up to `longest` words in a row begin and end; a word is letters and digits."""
    begins: list[int] = []
    for begin, end in _words(text):
        begins.append(begin)
        yield from ((first, end) for first in begins[-longest:])


def _words(text: str) -> Iterator[tuple[int, int]]:
    begin = -1
    for place, letter in enumerate(text + " "):
        if letter.isalnum():
            begin = place if begin < 0 else begin
        elif begin >= 0:
            yield begin, place
            begin = -1


def to_number(text: str) -> float | None:
    """A number in digits, perhaps an ordinal one."""
    try:
        number = float(_ORDINAL.sub("", text).replace(",", ""))
    except ValueError:
        return None
    return None if math.isnan(number) or number == math.inf else number


def to_date(text: str) -> Date | None:
    """A date that is all of the text."""
    for form in _FORMS:
        if (match := form.fullmatch(text)) is None:
            continue
        said = match.groupdict()
        if said.get("weekday", "monday") not in _WEEKDAYS:
            continue
        name = said.get("name")
        if name is not None and (name not in _MONTH_NUMBERS or (form is _FORMS[0] and name not in _MONTHS)):
            continue
        month = said.get("month") or (_MONTH_NUMBERS[name] if name else None)
        numbers = [None if each is None else int(each) for each in (said.get("year"), month, said.get("day"))]
        if _exists(*numbers):
            year, month, day = (None if each is None else float(each) for each in numbers)
            return year, month, day
    return None


def _exists(year: int | None, month: int | None, day: int | None) -> bool:
    year = _YEAR_UNSAID if year is None else year
    try:
        datetime.date(year, month or 1, day or 1)
    except ValueError:
        return False
    return year in _YEARS


def column_values(cells: Iterable[str]) -> dict[int, Value]:
    """Of a column of numbers, or of dates, the value of each row that has one; empty for other columns."""
    found = {row: values(normal(cell)) for row, cell in enumerate(cells)}
    counts = Counter(kind for each in found.values() for kind in {type(value) for value in each})
    most = max(counts.values(), default=0)
    if not most or most < len(found) * _SHARE:
        return {}
    chosen: type = tuple if counts[tuple] == most else float
    first = {row: next((value for value in each if type(value) is chosen), None) for row, each in found.items()}
    return {row: value for row, value in first.items() if value is not None}


def comparison(compared: Iterable[Value]) -> Key | None:
    """What to compare values by: of dates what all of them say. None if they do not compare."""
    compared = list(compared)
    if len({type(value) for value in compared}) != 1:
        return None
    if isinstance(compared[0], float):
        return lambda value: value
    said = [part for part in range(3) if all(value[part] is not None for value in compared)]  # type: ignore[index]
    return (lambda value: tuple(value[part] for part in said)) if said else None  # type: ignore[index]


def ranks(column: Mapping[int, Value]) -> dict[int, tuple[int, int]]:
    """The rank of each row's value among those of its column, from the smallest and from the largest, from 1 on."""
    key = comparison(column.values())
    if key is None:
        return {}
    keys = {row: key(value) for row, value in column.items()}
    order = {value: number for number, value in enumerate(sorted(set(keys.values())))}
    return {row: (order[value] + 1, len(order) - order[value]) for row, value in keys.items()}


def relations(asked: Iterable[Value], column: Mapping[int, Value]) -> dict[int, int]:
    """How the values of a question compare with each row's: the sum of 1 for equal, 2 for less, 4 for greater."""
    found: dict[int, int] = dict.fromkeys(column, 0)
    for value in asked if column else ():
        key = comparison([*column.values(), value])
        if key is None:
            continue
        one = key(value)
        for row, other in column.items():
            two = key(other)
            found[row] |= 1 if one == two else 2 if one < two else 4
    return found
