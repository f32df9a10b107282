"""What the files of a checkpoint say of themselves; nothing is loaded, no library is needed."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from conch.errors import InvalidArgumentError

#: Files a deployed model may need; everything else (other frameworks' weights, training state) stays behind.
NEEDED_FILES = (
    *("*.json", "*.txt", "*.model", "*.jinja", "*.md", "*.vocab", "*.bpe", "*.tiktoken", "*.spm", "*.npz", "*.npy"),
    *("LICENSE*", "*.safetensors"),
)
CODE_FILES = ("*.py",)
#: The directory of the network that plays spectrograms, in a checkpoint or beside it.
VOCODER = "vocoder"
PICKLE_FILES = ("pytorch_model*.bin", "model*.bin", "*.pt", "*.pth", "*.ckpt")
#: Of those, what is never needed.
UNNEEDED_FILES = (
    *("onnx/*", "openvino/*", "coreml/*", "original/*", "runs/*", "checkpoint-*/*", ".*", "*/.*"),
    *(
        "consolidated*",
        "*.fp16.safetensors",
        "*.non_ema.safetensors",
        "optimizer*",
        "scheduler.pt",
        "training_args.bin",
    ),
    *("rng_state*", "trainer_state.json", "rust_model*", "tf_model*", "flax_model*"),
)


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint directory.

    Attributes:
        path: the directory.
        source: where it came from: "owner/name@revision" or the directory as it was given.
        pipeline_tag: the task the hub assigned, "" when it was not asked.
        vocoder: the network that plays its spectrograms, a checkpoint of its own; None where it has one in itself, or
            needs none.
    """

    path: Path
    source: str
    pipeline_tag: str = ""
    vocoder: Checkpoint | None = None

    @property
    def config(self) -> dict[str, Any]:
        """config.json ({} without one); of a sentence-transformers checkpoint, that of its transformer."""
        return dict(read_json(self.path / self.transformer_directory / "config.json"))

    @property
    def modules(self) -> list[dict[str, Any]]:
        """modules.json of sentence-transformers, in order; empty without one."""
        found = read_json(self.path / "modules.json")
        return found if isinstance(found, list) else []

    @property
    def transformer_directory(self) -> str:
        """Where the transformer lies inside the checkpoint: "" but for old sentence-transformers checkpoints."""
        return next((str(each["path"]) for each in self.modules if each["type"].endswith("Transformer")), "")

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @property
    def architectures(self) -> list[str]:
        return list(self.config.get("architectures") or [])

    @property
    def has_custom_code(self) -> bool:
        """Whether it brings Python of its own for its model or configuration."""
        return bool(self.config.get("auto_map"))

    @property
    def has_decision_head(self) -> bool:
        """Whether it was made to decide: transformers' decision file, or one of the files older heads ship."""
        return any(
            (self.path / name).is_file() for name in ("decision.json", "decision_config.json", "judge_config.json")
        )

    @property
    def vocoder_directory(self) -> Path | None:
        """Where the network lies that plays its spectrograms; None without one."""
        own = self.path / VOCODER
        return self.vocoder.path if self.vocoder else own if own.is_dir() else None

    def files(self, *, pickle: bool = False, code: bool = False) -> list[Path]:
        """The files to deploy, relative to `path`."""
        return sorted(needed(_walk(self.path), pickle=pickle, code=code), key=str)

    def beside(self) -> dict[str, Path]:
        """The files to deploy that lie elsewhere: path in the model's version directory -> the file."""
        if self.vocoder is None:
            return {}
        files = self.vocoder.files(pickle=not self.vocoder.has_safetensors())
        return {f"{VOCODER}/{file.as_posix()}": self.vocoder.path / file for file in files}

    def has_safetensors(self) -> bool:
        """Whether its own weights, not those of a vocoder in it, are safetensors."""
        return any(path.suffix == ".safetensors" and path.parts[0] != VOCODER for path in self.files())

    def missing_weights(self) -> list[str]:
        """The files that an index of its safetensors names and that are not there."""
        indices = [path for path in self.files() if path.name.endswith(".safetensors.index.json")]
        named = {
            (self.path / index).parent / str(file)
            for index in indices
            for file in read_json(self.path / index).get("weight_map", {}).values()
        }
        return sorted(path.name for path in named if not path.is_file())

    def has_pickled_weights(self) -> bool:
        return any(_matches(path, PICKLE_FILES) for path in self.files(pickle=True))


def needed(paths: Iterator[Path] | list[Path], *, pickle: bool = False, code: bool = False) -> Iterator[Path]:
    """Those of `paths` (relative to the checkpoint) that a deployed model may need."""
    patterns = NEEDED_FILES + (PICKLE_FILES if pickle else ()) + (CODE_FILES if code else ())
    return (path for path in paths if _matches(path, patterns) and not _matches(path, UNNEEDED_FILES))


def read_json(path: Path) -> Any:
    """The content of a JSON file, {} if there is none.

    Raises:
        InvalidArgumentError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise InvalidArgumentError(f"cannot read '{path}' as JSON: {error}") from error


def _walk(directory: Path) -> Iterator[Path]:
    return (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())


def _matches(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(path.as_posix(), each) or fnmatch.fnmatch(path.name, each) for each in patterns)
