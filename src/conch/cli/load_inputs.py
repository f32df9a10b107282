"""Flags of `conch bench` and `conch compare` that say what requests hold."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from conch.bench.prepare import Order
from conch.bench.samples import Wishes
from conch.bench.target import Target
from conch.cli.infer_inputs import InputError, InputSpec, make_input
from conch.inference import Parameter


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything `read_order` reads."""
    parser.add_argument(
        "-i",
        "--input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an input as for conch infer; others are made: texts, images, ... as the model's task needs them",
    )
    parser.add_argument(
        "--inputs",
        type=Path,
        metavar="FILE",
        help='requests of your own: a JSON object a line, {"text": "...", "image": "photo.jpg"}',
    )
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME:N,N,...",
        help="size of an input that has dimensions of any size, without the batch dimension",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="inferences a request; default 1")
    parser.add_argument("--distinct", type=int, default=32, metavar="N", help="different requests; default 32")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of inputs and arrivals; default 0")


def read_order(args: argparse.Namespace, target: Target) -> Order:
    """What the flags ask for, for this model.

    Raises:
        InputError: a value does not fit the model.
    """
    for flag in ("batch", "distinct"):
        if getattr(args, flag) < 1:
            raise InputError(f"--{flag} expects 1 or more, got {getattr(args, flag)}")
    specs = {spec.name: InputSpec(spec.name, spec.datatype.value, spec.dims, spec.optional) for spec in target.inputs}
    fixed: dict[str, list[str]] = {}
    for text in args.input:
        name, value = _pair(text, "-i")
        fixed.setdefault(name, []).append(value)
    rows = _read_rows(args.inputs) if args.inputs else [{}]
    given = [_arrays(specs, {**row, **fixed}, target) for row in rows]
    wishes = Wishes(_shapes(args.shape, specs), frozenset(given[0]), max(args.distinct, len(rows)), args.seed)
    parameters = {name: _parameter(value) for name, value in (_pair(text, "-p") for text in args.parameter)}
    outputs = tuple(getattr(args, "output", ()))
    for name in outputs:
        if name not in target.outputs:
            raise InputError(f"model '{target.name}' has no output '{name}'; its outputs are {_list(target.outputs)}")
    return Order(wishes, [row for row in given if row], outputs, parameters, args.batch)


def _pair(text: str, flag: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"{flag} expects NAME=VALUE, got '{text}'")
    return name, value


def _parameter(text: str) -> Parameter:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _shapes(texts: Sequence[str], specs: Mapping[str, InputSpec]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition(":")
        try:
            dims = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            raise InputError(f"--shape expects NAME:N,N,..., got '{text}'") from None
        if name not in specs:
            raise InputError(f"--shape {text}: the model has no input '{name}'; its inputs are {_list(specs)}")
        declared = specs[name].shape
        fits = len(dims) == len(declared) and all(
            want in (-1, size) and size >= 0 for want, size in zip(declared, dims, strict=True)
        )
        if not fits:
            raise InputError(f"--shape {text}: input '{name}' has the shape {list(declared)}")
        shapes[name] = dims
    return shapes


def _read_rows(path: Path) -> list[dict[str, list[str]]]:
    """The lines of --inputs, each input as the texts that -i would take."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"--inputs: cannot read '{path}': {error.strerror}") from error
    rows: list[dict[str, list[str]]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"--inputs: line {number} of '{path}' is not JSON: {error}") from error
        if not isinstance(row, dict) or not row:
            raise InputError(f'--inputs: line {number} of \'{path}\': expected an object such as {{"text": "..."}}')
        rows.append({name: _texts(value) for name, value in row.items()})
        if rows[-1].keys() != rows[0].keys():
            raise InputError(f"--inputs: line {number} of '{path}' has other inputs than the first")
    if not rows:
        raise InputError(f"--inputs: '{path}' has no lines")
    return rows


def _texts(value: object) -> list[str]:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    return [value if isinstance(value, str) else json.dumps(value)]


def _arrays(
    specs: Mapping[str, InputSpec], texts: Mapping[str, Sequence[str]], target: Target
) -> dict[str, np.ndarray]:
    for name in texts:
        if name not in specs:
            raise InputError(f"model '{target.name}' has no input '{name}'; its inputs are {_list(specs)}")
    return {name: make_input(specs[name], values, target.batches).array for name, values in texts.items()}


def _list(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(names) or "none"
