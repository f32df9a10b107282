"""`python -m bench.parts REPOSITORY`: what each Python part of the ensembles there occupies, and how soon it is ready.

Parts are loaded one after the other; of those with the same model.py the largest counts.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from importlib import resources
from pathlib import Path

import msgspec
import psutil

from conch.inprocess.loaded import loaded_models

_TEMPLATES = resources.files("conch.deploy") / "templates"


class Measured(msgspec.Struct, frozen=True):
    """One part: the resident memory of its process, and wall and processor time until it is ready."""

    template: str
    resident_mb: float
    ready_s: float
    cpu_s: float


async def measure(repository: Path, model: str, template: str) -> Measured:
    """Load one model, alone."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    begin = time.monotonic()
    async with loaded_models(repository, model):
        ready_s = time.monotonic() - begin
        own = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
        resident = sum(child.memory_info().rss for child in own) / 1e6
        cpu_s = sum(sum(child.cpu_times()[:2]) for child in own)
    return Measured(template, resident, ready_s, cpu_s)


def template_of(model: Path) -> str:
    """The template that a model's model.py is; "" if it is none, or none without torch."""
    written = model / "1" / "model.py"
    if not written.is_file() or (model / "1" / "hf_serving.py").is_file():
        return ""
    text = written.read_text(encoding="utf-8")
    every = (each for each in _TEMPLATES.iterdir() if each.name.endswith(".py"))
    return next((each.name for each in every if each.read_text(encoding="utf-8") == text), "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.parts", description=__doc__.split("\n")[0])
    parser.add_argument("repository", type=Path)
    repository: Path = parser.parse_args().repository
    largest: dict[str, Measured] = {}
    for model in sorted(path for path in repository.iterdir() if path.is_dir()):
        if template := template_of(model):
            found = asyncio.run(measure(repository, model.name, template))
            known = largest.get(template)
            if known is None or found.resident_mb > known.resident_mb:
                largest[template] = found
    print("| part | resident | ready after | processor time |\n|---|---|---|---|")
    for each in sorted(largest.values(), key=lambda each: each.template):
        print(f"| `{each.template}` | {each.resident_mb:.0f} MB | {each.ready_s:.1f} s | {each.cpu_s:.1f} s |")


if __name__ == "__main__":
    main()
