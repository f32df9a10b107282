"""A whole deploy: fetch, tell the task, plan, break apart, write, verify, publish."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.detect import detect_task
from conch.deploy.ensemble import ensemble_files, model_name, settle
from conch.deploy.export import CannotExport, Exported, ExportOptions, check_options, export_best
from conch.deploy.export.dtype import torch_name
from conch.deploy.export.prove import accepted_differences
from conch.deploy.extras import require
from conch.deploy.facts import read_facts
from conch.deploy.family import Family
from conch.deploy.plan import Choices, Plan, default_name, make_plan
from conch.deploy.reference import Reference
from conch.deploy.render import pipeline_model
from conch.deploy.source import fetch
from conch.deploy.split.parts import CannotSplit, CorePart, Split
from conch.deploy.split.splitters import FOLDED, split
from conch.deploy.split.subject import Subject
from conch.deploy.tasks import Task, find_task
from conch.deploy.tasks.generation import STREAMED_TEXT_GENERATION
from conch.deploy.verify import Cases, Verification, make_cases, of_pieces, verify
from conch.deploy.verify_parts import InferModel, PartCases, make_part_cases, rows_of_requests, verify_parts
from conch.deploy.vocoder import makes_spectrograms, with_vocoder
from conch.errors import InvalidArgumentError

#: Loads models of a repository, and the models they are made of, for as long as the context lasts. Takes the directory
#: of the repository and the names of the models.
OpenModels = Callable[..., AbstractAsyncContextManager[InferModel]]
Approach = Literal["pipeline", "ensemble"]

#: Package -> module, where they are not named alike.
_MODULES = {"pillow": "PIL"}
#: Share of a deploy's time after which a stage begins, as it is for a small model.
_SHARES = {"fetching": 0.0, "loading": 0.05, "splitting": 0.3, "exporting": 0.35, "writing": 0.75, "verifying": 0.8}


class Order(msgspec.Struct, frozen=True):
    """What to deploy.

    Attributes:
        model: hub id or directory.
        repository: the model repository to write to; made if it is not there.
        task: "" to tell it from the checkpoint.
        name: "" to name the model after its checkpoint.
        approach: one model that holds the whole pipeline, or an ensemble of its parts.
        choices: how to serve it.
        export: how networks become files of an engine (ensemble).
        vocoder: hub id or directory of the network that plays spectrograms; "" for the model's own or its pipeline's.
        postprocess: where softmax and the like run (ensemble): in the exported graph or after it; "auto" is the graph,
            which costs no process, unless its export is wrong.
        allow_pickle: load pickled weights.
        force: replace a model of that name and its parts.
    """

    model: str
    repository: Path
    task: str = ""
    name: str = ""
    approach: Approach = "pipeline"
    choices: Choices = Choices()
    export: ExportOptions = ExportOptions()
    vocoder: str = ""
    postprocess: Literal["auto", "graph", "python"] = "auto"
    allow_pickle: bool = False
    force: bool = False


class Watch(Protocol):
    """Told what goes on: what is being done, and which share of the whole is done (0 to 1)."""

    def __call__(self, what: str, done: float) -> None: ...


class Planned(msgspec.Struct, frozen=True):
    """What is going to be written."""

    plan: Plan
    checkpoint: Checkpoint


class Ensemble(msgspec.Struct, frozen=True):
    """A split whose networks are exported, and what its parts should answer.

    Attributes:
        split: as it was written; the torch modules of its networks are gone.
        exported: by the suffix of the core part.
    """

    split: Split
    exported: Mapping[str, Exported]
    cases: PartCases


class Written(msgspec.Struct, frozen=True):
    """Models that were written to a staging repository.

    Attributes:
        directory: where the model that clients call lies once it is published.
        family: the staging repository.
        cases: what the model should answer; None until the library was asked.
        ensemble: None for approach 1.
        reason: why it is approach 1 though an ensemble was ordered, one line.
    """

    plan: Plan
    checkpoint: Checkpoint
    directory: Path
    family: Family
    cases: Cases | None = None
    ensemble: Ensemble | None = None
    reason: str = ""

    @property
    def approach(self) -> Approach:
        return "ensemble" if self.ensemble else "pipeline"

    @property
    def models(self) -> list[str]:
        """The names of all models, the one that clients call first."""
        parts = self.ensemble.split.parts if self.ensemble else ()
        return [self.plan.name, *(model_name(self.plan, part) for part in parts)]

    @property
    def loaded(self) -> list[str]:
        """The names of those that are loaded for clients: the others are steps of the first."""
        parts = self.ensemble.split.parts if self.ensemble else ()
        return [self.plan.name, *(model_name(self.plan, part) for part in parts if part.asked)]


def make(order: Order, say: Callable[[str], None], watch: Watch) -> Planned:
    """Fetch the checkpoint and plan its model.

    Raises:
        ConchError: the text says what to do.
    """
    trusted = order.choices.trust_remote_code
    task = find_task(order.task) if order.task else None
    if order.approach == "ensemble":
        check_options(order.export)
    require("torch")
    require("transformers")
    watch("fetching", _SHARES["fetching"])
    checkpoint = fetch(order.model, allow_pickle=order.allow_pickle, trust_remote_code=trusted)
    task = task or detect_task(checkpoint)
    checkpoint = with_vocoder(checkpoint, order.vocoder, allow_pickle=order.allow_pickle)
    if order.choices.stream:
        task = _streamed(task, order.approach)
    say(f"{checkpoint.source}: {task.name} ({task.summary})")
    for package in task.packages:
        require(_MODULES.get(package, package), package)
    facts = read_facts(checkpoint, task, trust_remote_code=trusted)
    plan = make_plan(order.name or _name(checkpoint, order), task, checkpoint.source, facts, order.choices)
    return Planned(plan, checkpoint)


def _streamed(task: Task, approach: Approach) -> Task:
    """The form of a task that answers piece by piece.

    Raises:
        InvalidArgumentError: it has none.
    """
    if task.name != STREAMED_TEXT_GENERATION.name:
        raise InvalidArgumentError(f"--stream is for {STREAMED_TEXT_GENERATION.name}, got {task.name}: leave it out")
    if approach == "ensemble":
        raise InvalidArgumentError("--stream writes one model that holds all: leave --approach ensemble out")
    return STREAMED_TEXT_GENERATION


def build(order: Order, planned: Planned, family: Family, say: Callable[[str], None], watch: Watch) -> Written:
    """Write the models to the staging repository; by approach 1 if no ensemble can be made.

    Raises:
        ConchError: the text says what to do.
    """
    reason = ""
    if order.approach == "ensemble":
        try:
            return _build_ensemble(order, planned, family, say, watch)
        except (CannotSplit, CannotExport) as error:
            reason = " ".join(str(error).split())
            family.clear()
    plan, checkpoint = planned.plan, planned.checkpoint
    pickle = order.allow_pickle and not checkpoint.has_safetensors()
    files = checkpoint.files(pickle=pickle, code=order.choices.trust_remote_code)
    watch("writing", _SHARES["writing"])
    family.write([pipeline_model(plan, checkpoint.path, files, checkpoint.beside())], _copying(watch))
    return Written(plan, checkpoint, order.repository / plan.name, family, reason=reason)


def write(order: Order, say: Callable[[str], None], watch: Watch) -> Written:
    """Make, build and publish a model without verifying it."""
    planned = make(order, say, watch)
    with Family(order.repository, planned.plan.name, force=order.force) as family:
        written = build(order, planned, family, say, watch)
        family.publish()
    return written


async def check(written: Written, open_models: OpenModels, watch: Watch) -> Verification:
    """Compare the models in their staging repository with the library's own."""
    plan, ensemble = written.plan, written.ensemble
    watch("asking the library", _SHARES["verifying"])
    cases = written.cases or make_cases(plan, _reference(plan, written.checkpoint))
    watch("starting the model", 0.85)
    async with open_models(written.family.staging, *written.loaded) as infer:
        parts, as_rows = Verification(()), list[list[int]]()
        if ensemble:
            watch("verifying each part", 0.9)
            parts = await verify_parts(plan, ensemble.split, cases, ensemble.cases, infer)
            as_rows = rows_of_requests(ensemble.split, cases.samples, ensemble.cases)
        watch("verifying the whole", 0.95)
        called = functools.partial(infer, plan.name)
        whole = await verify(plan, cases, of_pieces(called) if plan.choices.stream else called, as_rows)
    watch("verified", 1.0)
    return Verification((*parts.rows, *whole.rows), (*parts.errors, *whole.errors))


def _build_ensemble(
    order: Order, planned: Planned, family: Family, say: Callable[[str], None], watch: Watch
) -> Written:
    plan, checkpoint, options = planned.plan, planned.checkpoint, order.export
    watch("loading the original", _SHARES["loading"])
    # The truth and the networks are FP32; other formats are made of them by the export.
    truth = _reference(msgspec.structs.replace(plan, choices=_in_float32(plan.choices)), checkpoint)
    watch("splitting", _SHARES["splitting"])
    dtype = options.quantize or (torch_name(options.dtype) if options.dtype else "")
    cases = make_cases(plan, truth, dtype)
    subject = Subject(plan, truth.pipe, checkpoint, order.postprocess != "python")
    parts = split(subject)
    _check_heeded(plan, parts, options)
    part_cases = make_part_cases(parts, subject.network, truth, cases.samples)
    try:
        exported = _export(plan, parts, options, family, say, watch)
    except CannotExport as error:
        if parts.fallback is not None:
            parts = msgspec.structs.replace(parts.fallback, notes=(*parts.notes, str(error)))
        elif order.postprocess == "auto" and plan.task.name in FOLDED and _is_wrong(error):
            say(f"{error}; trying without what follows the network (--postprocess python)")
            parts = split(msgspec.structs.replace(subject, fold=False))
        else:
            raise
        family.clear()
        part_cases = make_part_cases(parts, subject.network, truth, cases.samples)
        exported = _export(plan, parts, options, family, say, watch)
    for note in parts.notes:
        say(note)
    settled = settle(plan, parts, exported).without_modules()
    watch("writing", _SHARES["writing"])
    family.write(ensemble_files(plan, settled, exported, checkpoint.path), _copying(watch))
    accepted = {suffix: accepted_differences(found.proof) for suffix, found in exported.items()}
    ensemble = Ensemble(settled, exported, msgspec.structs.replace(part_cases, accepted=accepted))
    return Written(plan, checkpoint, order.repository / plan.name, family, cases, ensemble)


def _check_heeded(plan: Plan, parts: Split, options: ExportOptions) -> None:
    """Refuse options that would change an exported network where there is none."""
    if any(isinstance(part, CorePart) for part in parts.parts):
        return
    asked = {"--quantize": options.quantize, "--opset": options.opset}
    if unheeded := [f"{flag} {value}" for flag, value in asked.items() if value]:
        raise InvalidArgumentError(
            f"{' '.join(unheeded)}: no network of '{plan.source}' is exported, since it generates token by token with "
            f"torch; leave {'it' if len(unheeded) == 1 else 'them'} out, or choose --dtype"
        )


def _is_wrong(error: CannotExport) -> bool:
    """Whether an engine did run the exported network, and answered otherwise."""
    return any(each.kind == "wrong" for each in error.rejected)


def _export(
    plan: Plan, parts: Split, options: ExportOptions, family: Family, say: Callable[[str], None], watch: Watch
) -> dict[str, Exported]:
    """Export every core into its version directory."""
    cores = [part for part in parts.parts if isinstance(part, CorePart)]
    begin, end = _SHARES["exporting"], _SHARES["writing"]
    exported = {}
    for number, part in enumerate(cores):

        def step(done: int, total: int, what: str, number: int = number) -> None:
            watch(what, begin + (end - begin) * (number + done / total) / len(cores))

        stage = msgspec.structs.replace(options, stage=part.suffix)
        found = export_best(part.network, family.version(model_name(plan, part)), stage, say, step)
        times = ", ".join(f"{name} {milliseconds:.2f} ms" for name, milliseconds in found.times_ms.items())
        say(f"{part.suffix}: {found.backend} {found.dtype}" + (f" ({times})" if times else ""))
        for note in notes(found):
            say(f"{part.suffix}: {note}")
        exported[part.suffix] = found
    return exported


class Accuracy(msgspec.Struct, frozen=True):
    """How far a network of fewer bits is from FP32 on the samples that prove it.

    Attributes:
        largest_difference: relative to the largest value of the output.
        smallest_cosine: between an output and that of FP32.
    """

    largest_difference: float
    smallest_cosine: float


def accuracy(exported: Exported) -> Accuracy | None:
    """None for FP32, which has to be equal."""
    if exported.dtype == "float32" or not exported.proof:
        return None
    return Accuracy(
        max(each.difference for each in exported.proof),
        min(each.cosine for each in exported.proof),
    )


def notes(exported: Exported) -> list[str]:
    """What whoever deploys should know of an export, a line each."""
    found = accuracy(exported)
    if found is None:
        return list(exported.notes)
    text = f"largest relative difference {found.largest_difference:.2g}, smallest cosine {found.smallest_cosine:.4f}"
    return [f"{exported.dtype} against float32: {text}", *exported.notes]


def _copying(watch: Watch) -> Callable[[Path, int, int], None]:
    """Progress of the files that are copied, as a part of the whole."""
    begin, end = _SHARES["writing"], _SHARES["verifying"]
    return lambda path, done, total: watch(f"copying {path.name}", begin + (end - begin) * done / max(total, 1))


def _reference(plan: Plan, checkpoint: Checkpoint) -> Reference:
    return Reference(plan, checkpoint.path, checkpoint.vocoder_directory if makes_spectrograms(checkpoint) else None)


def _in_float32(choices: Choices) -> Choices:
    return msgspec.structs.replace(choices, dtype="float32")


def _name(checkpoint: Checkpoint, order: Order) -> str:
    """The model's name when none was given; a directory is named by its own last part, whatever `order.model` says."""
    local = Path(order.model).expanduser()
    return default_name(local.resolve().name if local.is_dir() else checkpoint.source)


__all__ = [
    "Accuracy",
    "OpenModels",
    "Order",
    "Planned",
    "Task",
    "Written",
    "accuracy",
    "build",
    "check",
    "make",
    "notes",
    "write",
]
