"""`conch infer`: call a served model with values from the command line and print what it answers."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Mapping, Sequence

from conch.cli.infer_client import Answer, CallError, Client, ModelInfo, connect
from conch.cli.infer_inputs import InputError, make_input
from conch.cli.infer_table import render, to_json_values
from conch.inference import Parameter

_DEFAULT_URL = {"http": "localhost:8000", "grpc": "localhost:8001"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "conch infer MODEL -i NAME=VALUE [-i ...] [-p NAME=VALUE] [flags]"
    parser.epilog = "example: conch infer clip -i image=photo.jpg -i text='a red circle' -i text='a blue square'"
    parser.add_argument("model", help="name of the model")
    parser.add_argument(
        "-i",
        "--input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an input: text, @FILE, a media file, a number, a JSON array or a .npy file; repeat a name for an array",
    )
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    parser.add_argument("-o", "--output", action="append", default=[], metavar="NAME", help="only this output")
    parser.add_argument("--model-version", default="", help="version; the newest when not given")
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http")
    parser.add_argument("--url", help="host:port of the server; default localhost:8000 (grpc: localhost:8001)")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="default 60")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Call the model; returns 0, 1 for a failed call or 2 for arguments that do not fit the model."""
    url = args.url or _DEFAULT_URL[args.protocol]
    try:
        values = _pairs(args.input, "-i")
        parameters = {name: _parameter(texts[-1]) for name, texts in _pairs(args.parameter, "-p").items()}
        client = connect(args.protocol, url, args.timeout)
        try:
            answer = _call(client, args, values, parameters)
        finally:
            client.close()
    except InputError as error:
        print(f"conch infer: error: {error}", file=sys.stderr)
        return 2
    except CallError as error:
        print(f"conch infer: error: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(to_json_values(answer), ensure_ascii=False))
    else:
        print(render(answer, {name: texts for name, texts in values.items() if len(texts) > 1}))
    return 0


def _pairs(texts: Sequence[str], flag: str) -> dict[str, list[str]]:
    pairs: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"{flag} expects NAME=VALUE, got '{text}'")
        pairs.setdefault(name, []).append(value)
    return pairs


def _parameter(text: str) -> Parameter:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _call(
    client: Client, args: argparse.Namespace, values: Mapping[str, Sequence[str]], parameters: Mapping[str, Parameter]
) -> Answer:
    model = client.model(args.model, args.model_version)
    _check_names(model, values, args.output)
    arrays = [make_input(spec, values[spec.name], model.batches) for spec in model.inputs if spec.name in values]
    return client.infer(model, arrays, args.output, parameters)


def _check_names(model: ModelInfo, values: Mapping[str, Sequence[str]], outputs: Sequence[str]) -> None:
    names = [spec.name for spec in model.inputs]
    for name in values:
        if name not in names:
            raise InputError(f"model '{model.name}' has no input '{name}'{_nearest(name, names, 'inputs')}")
    for name in outputs:
        if name not in model.outputs:
            raise InputError(f"model '{model.name}' has no output '{name}'{_nearest(name, model.outputs, 'outputs')}")
    missing = [spec for spec in model.inputs if spec.name not in values and not spec.optional]
    if missing:
        wanted = " ".join(f"-i {spec.name}=<{spec.datatype} {list(spec.shape)}>" for spec in missing)
        raise InputError(f"model '{model.name}' needs more inputs; add: {wanted}")


def _nearest(name: str, known: Sequence[str], kind: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; its {kind} are {', '.join(known) or 'none'}"
