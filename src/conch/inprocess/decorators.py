"""Decorators that let a function take arrays instead of requests, in the shape of PyTriton's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from conch.backends.function import ModelFunction, Request
from conch.errors import InvalidArgumentError


def batch(function: Callable[..., Any]) -> ModelFunction:
    """Call the function once for all requests of a batch, with their inputs joined along the first axis.

    It takes each input as a keyword argument, and returns arrays (a mapping by output name, or a sequence in the order
    of the outputs) with as many rows; each request gets its own. A generator does so any number of times. Requests that
    do not bring the same inputs, or whose shapes differ beyond the first axis, cannot be joined: such a batch fails.
    """

    @functools.wraps(function)
    def joined(requests: Sequence[Request]) -> object:
        sizes = [_rows(request) for request in requests]
        answers = function(**_join(requests))
        if isinstance(answers, Iterator):
            return (_split(answer, sizes) for answer in answers)
        return _split(answers, sizes)

    return joined


def sample(function: Callable[..., Any]) -> ModelFunction:
    """Call the function once for each request, with its inputs as keyword arguments."""

    @functools.wraps(function)
    def one_by_one(requests: Sequence[Request]) -> object:
        if len(requests) == 1:
            answers = function(**requests[0])
            return ([answer] for answer in answers) if isinstance(answers, Iterator) else [answers]
        return [function(**request) for request in requests]

    return one_by_one


def _rows(request: Request) -> int:
    first = next(iter(request.values()), None)
    return first.shape[0] if first is not None and first.ndim else 1


def _join(requests: Sequence[Request]) -> dict[str, np.ndarray]:
    if len(requests) == 1:
        return dict(requests[0])
    names = list(requests[0])
    for request in requests:
        if set(request) != set(names):
            raise InvalidArgumentError(
                f"requests of one batch must bring the same inputs, got {sorted(names)} and {sorted(request)}"
            )
    return {name: np.concatenate([request[name] for request in requests]) for name in names}


def _split(answer: Any, sizes: Sequence[int]) -> list[object]:
    """The rows of each request, in the form (mapping or sequence) of the whole answer."""
    if len(sizes) == 1:
        return [answer]
    ends = np.cumsum(sizes)[:-1]
    if isinstance(answer, Mapping):
        parts = {name: np.split(_whole(name, array, sizes), ends) for name, array in answer.items()}
        return [{name: parts[name][number] for name in parts} for number in range(len(sizes))]
    if not isinstance(answer, list | tuple):
        raise InvalidArgumentError(
            f"a function under @conch.batch must return a mapping or a sequence of arrays, got {type(answer).__name__}"
        )
    columns = [np.split(_whole(number, array, sizes), ends) for number, array in enumerate(answer)]
    return [[column[number] for column in columns] for number in range(len(sizes))]


def _whole(name: object, value: object, sizes: Sequence[int]) -> np.ndarray:
    array = np.asarray(value)
    if not array.shape or array.shape[0] != sum(sizes):
        raise InvalidArgumentError(
            f"output {name!r} must have {sum(sizes)} rows, as the inputs have, got shape {list(array.shape)}"
        )
    return array
