"""`conch deploy`: a HuggingFace checkpoint becomes a model of the repository."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from conch.deploy.export import BACKENDS, ExportOptions
from conch.deploy.family import Family
from conch.deploy.next_steps import curl_command, infer_command, serve_command
from conch.deploy.plan import Choices
from conch.deploy.run import Order, Written, accuracy, build, check, make, notes
from conch.deploy.tasks import TASKS
from conch.deploy.verify import Verification, table
from conch.errors import ConchError, InvalidArgumentError

#: Exit code of a deploy that asked for an ensemble and got approach 1.
FELL_BACK = 3
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "tasks: " + ", ".join(sorted(TASKS))
    parser.add_argument("model", help="hub id (owner/name, owner/name@revision) or checkpoint directory")
    what = parser.add_argument_group("what to write")
    what.add_argument("--task", default="", help="what the model does; told from the checkpoint when not given")
    what.add_argument("--name", default="", help="the model's name; the checkpoint's when not given")
    what.add_argument(
        "--approach",
        choices=("pipeline", "ensemble"),
        default="pipeline",
        help="pipeline (default): one model holds all; ensemble: preprocess, exported network and postprocess apart",
    )
    what.add_argument("--model-repository", type=Path, default=Path("models"), metavar="DIR", help="default: models")
    what.add_argument("--force", action="store_true", help="replace a model of that name, and its parts")
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
    serving.add_argument(
        "--dtype",
        default="auto",
        help="fp32, fp16, bf16 or torch's name of a number format; auto: the checkpoint's (ensemble: fp32)",
    )
    serving.add_argument("--instances", type=int, default=1, metavar="N", help="copies of the model; default 1")
    serving.add_argument("--max-batch-size", type=int, metavar="N", help="0: tensors without a batch dimension")
    serving.add_argument(
        "--stream",
        action="store_true",
        help="text-generation: send pieces of the text while it is written (a decoupled model)",
    )
    serving.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a request parameter that applies unless a request says otherwise; VALUE is JSON or text",
    )
    what.add_argument(
        "--vocoder",
        default="",
        metavar="MODEL",
        help="hub id or directory of the network that plays the spectrograms of SpeechT5; default: the directory "
        "'vocoder' of the checkpoint, else microsoft/speecht5_hifigan",
    )
    _add_ensemble_arguments(parser.add_argument_group("ensembles"))
    trust = parser.add_argument_group("trust")
    trust.add_argument("--allow-pickle", action="store_true", help="load weights that can run code when loaded")
    trust.add_argument("--trust-remote-code", action="store_true", help="run Python code that the checkpoint brings")
    after = parser.add_argument_group("afterwards")
    after.add_argument("--no-verify", action="store_true", help="do not compare the model with transformers")
    after.add_argument("--keep-failed", action="store_true", help="keep a model that the verification refuses")
    after.add_argument("--serve", action="store_true", help="serve the repository when the model is there")
    after.add_argument("--json", action="store_true", help="print one JSON object")


def _add_ensemble_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backend",
        choices=("auto", *BACKENDS),
        default="auto",
        help="what runs the network; auto (default): the fastest of the installed ones that is equal",
    )
    group.add_argument("--quantize", choices=("int8",), default="", help="smaller and faster; the accuracy is shown")
    group.add_argument("--opset", type=int, metavar="N", help="of the ONNX file; default: what the target loads")
    group.add_argument("--target", default="", metavar="triton:YY.MM", help="refuse what that Triton would not load")
    group.add_argument(
        "--postprocess",
        choices=("auto", "graph", "python"),
        default="auto",
        help="where softmax and the like run: in the exported network or after it; auto (default): in the network, "
        "which is faster, unless its export is wrong",
    )


def run(args: argparse.Namespace) -> int:
    """Deploy.

    Returns:
        0, 1 when it failed or the model does not answer as the library does, `FELL_BACK` when an ensemble was asked for
        and the model was deployed by approach 1.
    """
    say: Callable[[str], None] = _say_on_stderr if args.json else print
    watch = _Watch()
    try:
        order = _order(args)
        planned = make(order, say, watch)
        with Family(order.repository, planned.plan.name, force=order.force) as family:
            written = build(order, planned, family, say, watch)
            verification = None if args.no_verify else asyncio.run(_check(written, watch))
            failed = verification is not None and not verification.passed
            if not failed or args.keep_failed:
                family.publish()
    except (ConchError, OSError) as error:
        watch.close()
        text = (
            error.message if isinstance(error, ConchError) else f"cannot deploy to '{args.model_repository}': {error}"
        )
        if args.json:
            print(json.dumps({"error": text}))
        else:
            print(f"conch deploy: error: {text}", file=sys.stderr)
        return 1
    watch.close()
    if args.json:
        print(json.dumps(_report(written, verification), indent=2))
    else:
        _tell(written, verification, kept=args.keep_failed)
    if failed:
        return 1
    served = _serve(args.model_repository) if args.serve else 0
    return served or (FELL_BACK if written.reason else 0)


def _order(args: argparse.Namespace) -> Order:
    dtype = _DTYPES.get(args.dtype, args.dtype)
    choices = Choices(
        image_input=args.image_input,
        audio_input=args.audio_input,
        device=args.device,
        dtype=dtype,
        instances=args.instances,
        max_batch_size=args.max_batch_size,
        trust_remote_code=args.trust_remote_code,
        stream=args.stream,
        parameters=dict(_parameter(text) for text in args.parameter),
    )
    export = ExportOptions(
        backend=args.backend,
        dtype="" if dtype == "auto" else dtype,
        quantize=args.quantize,
        opset=args.opset,
        target=args.target,
        device=_export_device(args.device),
    )
    return Order(
        model=args.model,
        repository=args.model_repository,
        task=args.task,
        name=args.name,
        approach=args.approach,
        choices=choices,
        export=export,
        vocoder=args.vocoder,
        postprocess=args.postprocess,
        allow_pickle=args.allow_pickle,
        force=args.force,
    )


def _export_device(device: str) -> str:
    """Where the network will run: "cuda" if that was said, or if there is a GPU and nothing was said."""
    from conch.process import visible_gpu_count

    return "cuda" if device == "cuda" or (device == "auto" and visible_gpu_count()) else "cpu"


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidArgumentError(f"--parameter expected NAME=VALUE, got '{text}'")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


async def _check(written: Written, watch: _Watch) -> Verification:
    from conch.inprocess.loaded import loaded_models

    return await check(written, loaded_models, watch)


def _serve(repository: Path) -> int:
    from conch.config.serve_options import ServeOptions
    from conch.serving import serve

    return serve(ServeOptions(model_repository=(str(repository),)))


class _Watch:
    """A progress bar over the stages of a deploy, with the time left; none where nobody looks."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, what: str, done: float) -> None:
        if self._bar is None:
            from tqdm import tqdm

            shape = "{desc:<46} {percentage:3.0f}%|{bar}| {elapsed} < {remaining}"
            self._bar = tqdm(total=1.0, bar_format=shape, disable=not sys.stderr.isatty(), leave=False)
        self._bar.set_description_str(what[:46], refresh=False)
        self._bar.update(max(0.0, done - self._bar.n))
        self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


def _say_on_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def _tell(written: Written, verification: Verification | None, *, kept: bool) -> None:
    if verification is not None:
        print(table(verification))
        if not verification.passed:
            stage = f": the stage '{verification.failed_stage}' differs" if verification.failed_stage else ""
            fate = f"It is kept in {written.directory}" if kept else "Nothing was written (--keep-failed keeps it)"
            print(
                f"\nVERIFICATION FAILED: '{written.plan.name}' does not answer as the library does{stage}. "
                f"{fate}; do not put it into production.",
                file=sys.stderr,
            )
            return
        lenient = any(row.tolerance == float("inf") for row in verification.rows)
        print(f"verified: the deployed model answers as the library does{', but for int8' if lenient else ''}")
    print(f"wrote {', '.join(written.models)} to {written.directory.parent}")
    if written.reason:
        print(f"by approach 1 (exit code {FELL_BACK}): {written.reason}")
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
        {
            "stage": row.stage,
            "output": row.output,
            "difference": str(row.difference),
            "tolerance": str(row.tolerance),
            "passed": row.passed,
        }
        for row in (verification.rows if verification else ())
    ]
    return {
        "name": plan.name,
        "task": plan.task.name,
        "source": plan.source,
        "directory": str(written.directory),
        "approach": written.approach,
        "reason": written.reason,
        "models": written.models,
        "engines": _engines(written),
        "notes": list(written.ensemble.split.notes) if written.ensemble else [],
        **tensors,
        "parameters": [each.name for each in plan.task.parameters],
        "verified": None if verification is None else verification.passed,
        "differences": rows,
        "errors": list(verification.errors) if verification else [],
        "serve": serve_command(written.directory.parent),
        "infer": infer_command(plan),
        "curl": curl_command(plan),
    }


def _engines(written: Written) -> list[dict[str, Any]]:
    """What runs each exported network, and why the others do not."""
    exported = written.ensemble.exported if written.ensemble else {}
    return [
        {
            "part": part,
            "backend": each.backend,
            "dtype": each.dtype,
            "opset": each.opset,
            "times_ms": dict(each.times_ms),
            "rejected": {rejection.backend: rejection.reason for rejection in each.rejected},
            "accuracy": None if (found := accuracy(each)) is None else msgspec.structs.asdict(found),
            "notes": notes(each),
        }
        for part, each in exported.items()
    ]
