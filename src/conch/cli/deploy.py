"""`conch deploy`: a HuggingFace checkpoint becomes a model of the repository."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conch.deploy.next_steps import curl_command, infer_command, serve_command
from conch.deploy.plan import Choices
from conch.deploy.run import Order, Written, check, write
from conch.deploy.tasks import TASKS
from conch.deploy.verify import Verification, table
from conch.errors import ConchError, InvalidArgumentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "tasks: " + ", ".join(sorted(TASKS))
    parser.add_argument("model", help="hub id (owner/name, owner/name@revision) or checkpoint directory")
    what = parser.add_argument_group("what to write")
    what.add_argument("--task", default="", help="what the model does; told from the checkpoint when not given")
    what.add_argument("--name", default="", help="the model's name; the checkpoint's when not given")
    what.add_argument(
        "--approach", choices=("pipeline",), default="pipeline", help="one model holds the whole pipeline"
    )
    what.add_argument("--model-repository", type=Path, default=Path("models"), metavar="DIR", help="default: models")
    what.add_argument("--force", action="store_true", help="replace a model of that name")
    serving = parser.add_argument_group("how it serves")
    serving.add_argument(
        "--image-input",
        choices=("bytes", "pixels", "pixels-fp32"),
        default="bytes",
        help="images come as encoded files (default) or as pixels [height, width, 3], UINT8 or FP32, 0 to 255",
    )
    serving.add_argument(
        "--audio-input",
        choices=("bytes", "samples"),
        default="bytes",
        help="sounds come as encoded files (default) or as FP32 samples with a sampling rate",
    )
    serving.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one"
    )
    serving.add_argument("--dtype", default="auto", help="torch's name of a number format; auto: the checkpoint's")
    serving.add_argument("--instances", type=int, default=1, metavar="N", help="copies of the model; default 1")
    serving.add_argument("--max-batch-size", type=int, metavar="N", help="0: tensors without a batch dimension")
    serving.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a request parameter that applies unless a request says otherwise; VALUE is JSON or text",
    )
    trust = parser.add_argument_group("trust")
    trust.add_argument("--allow-pickle", action="store_true", help="load weights that can run code when loaded")
    trust.add_argument("--trust-remote-code", action="store_true", help="run Python code that the checkpoint brings")
    after = parser.add_argument_group("afterwards")
    after.add_argument("--no-verify", action="store_true", help="do not compare the model with transformers")
    after.add_argument("--serve", action="store_true", help="serve the repository when the model is there")
    after.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Deploy; returns 1 when it failed or the model does not answer as the library does."""
    say: Callable[[str], None] = _say_on_stderr if args.json else print
    verification: Verification | None = None
    try:
        written = write(_order(args), say, _Progress())
        if not args.no_verify:
            verification = asyncio.run(_check(written, say))
    except ConchError as error:
        if args.json:
            print(json.dumps({"error": error.message}))
        else:
            print(f"conch deploy: error: {error.message}", file=sys.stderr)
        return 1
    failed = verification is not None and not verification.passed
    if args.json:
        print(json.dumps(_report(written, verification), indent=2))
    else:
        _tell(written, verification)
    if failed:
        return 1
    return _serve(args.model_repository) if args.serve else 0


def _order(args: argparse.Namespace) -> Order:
    choices = Choices(
        image_input=args.image_input,
        audio_input=args.audio_input,
        device=args.device,
        dtype=args.dtype,
        instances=args.instances,
        max_batch_size=args.max_batch_size,
        trust_remote_code=args.trust_remote_code,
        parameters=dict(_parameter(text) for text in args.parameter),
    )
    return Order(
        model=args.model,
        repository=args.model_repository,
        task=args.task,
        name=args.name,
        choices=choices,
        allow_pickle=args.allow_pickle,
        force=args.force,
    )


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidArgumentError(f"--parameter expected NAME=VALUE, got '{text}'")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


async def _check(written: Written, say: Callable[[str], None]) -> Verification:
    from conch.app import loaded_model

    return await check(written, loaded_model, say)


def _serve(repository: Path) -> int:
    from conch.app import serve
    from conch.config.serve_options import ServeOptions

    return serve(ServeOptions(model_repository=(repository,)))


class _Progress:
    """A progress bar for the files that are copied; none where nobody looks."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, path: Path, done_bytes: int, total_bytes: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            quiet = not sys.stderr.isatty()
            self._bar = tqdm(total=total_bytes, unit="B", unit_scale=True, desc="copying", disable=quiet)
        self._bar.update(done_bytes - self._bar.n)
        if done_bytes == total_bytes:
            self._bar.close()


def _say_on_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def _tell(written: Written, verification: Verification | None) -> None:
    if verification is not None:
        print(table(verification))
        if not verification.passed:
            print(
                f"\nVERIFICATION FAILED: '{written.plan.name}' does not answer as the library does. It stays in "
                f"{written.directory} for you to look at; do not put it into production.",
                file=sys.stderr,
            )
            return
        print("verified: the deployed model answers as the library does")
    curl = curl_command(written.plan)
    print(f"\nserve it:  {serve_command(written.directory.parent)}\ncall it:   {infer_command(written.plan)}")
    if curl:
        print(f"with curl: {curl}")


def _report(written: Written, verification: Verification | None) -> dict[str, Any]:
    plan = written.plan
    tensors = {
        key: [{"name": each.name, "datatype": each.datatype.value, "dims": list(each.dims)} for each in specs]
        for key, specs in (("inputs", plan.inputs), ("outputs", plan.outputs))
    }
    rows = [
        {"output": row.output, "difference": str(row.difference), "tolerance": row.tolerance, "passed": row.passed}
        for row in (verification.rows if verification else ())
    ]
    return {
        "name": plan.name,
        "task": plan.task.name,
        "source": plan.source,
        "directory": str(written.directory),
        **tensors,
        "parameters": [each.name for each in plan.task.parameters],
        "verified": None if verification is None else verification.passed,
        "differences": rows,
        "errors": list(verification.errors) if verification else [],
        "serve": serve_command(written.directory.parent),
        "infer": infer_command(plan),
        "curl": curl_command(plan),
    }
