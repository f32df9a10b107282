"""`hf://` URLs: a checkpoint, and how it is to be deployed. Pure functions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

import msgspec

from conch.errors import InvalidArgumentError

#: Options of `conch deploy` that a URL may give. The command checks their values.
OPTIONS = (
    "task",
    "name",
    "approach",
    "device",
    "dtype",
    "instances",
    "max-batch-size",
    "image-input",
    "audio-input",
    "backend",
    "quantize",
    "postprocess",
)
#: Options that are given as `true`.
SWITCHES = ("no-verify", "allow-pickle", "trust-remote-code")

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class HubModel(msgspec.Struct, frozen=True):
    """What a URL asks for.

    Attributes:
        source: as `conch deploy` takes it: a directory, or `owner/name[@revision]`.
        name: of the model that clients call.
        options: of the deploy, the name apart.
    """

    source: str
    name: str
    options: Mapping[str, str] = {}

    @property
    def is_directory(self) -> bool:
        """Whether the checkpoint lies on this machine."""
        return self.source.startswith("/")

    @property
    def pinned(self) -> str:
        """The commit, where the URL itself names one; "" otherwise."""
        revision = self.source.partition("@")[2]
        return revision if _COMMIT.fullmatch(revision) and not self.is_directory else ""

    def at(self, commit: str) -> str:
        """The source at a commit; a directory has none."""
        return self.source if self.is_directory else f"{self.source.partition('@')[0]}@{commit}"

    def key(self, state: str) -> str:
        """Names what deploying that state of the checkpoint (commit or fingerprint) with these options makes."""
        told = "\n".join([self.source.partition("@")[0], state, self.name, *map(repr, sorted(self.options.items()))])
        return f"{self.name}-{hashlib.blake2b(told.encode(), digest_size=8).hexdigest()}"

    def arguments(self, state: str, repository: str) -> Sequence[str]:
        """The arguments of `conch deploy` that write it to a repository."""
        found = [self.at(state), f"--name={self.name}", f"--model-repository={repository}"]
        for option, value in self.options.items():
            found.append(f"--{option}" if option in SWITCHES else f"--{option}={value}")
        return found


def parse_hub_url(url: str) -> HubModel:
    """The parts of `hf://owner/name[@revision][?option=value&...]` or `hf:///directory[?...]`.

    Raises:
        InvalidArgumentError: it is none such; the text says what was expected.
    """
    place, _, query = url.removeprefix("hf://").partition("?")
    place = place.rstrip("/")
    if not place.startswith("/") and not _HUB_ID.fullmatch(place):
        raise InvalidArgumentError(
            f"model repository '{url}': expected hf://<owner>/<name>[@<revision>] or hf:///<directory>"
        )
    options: dict[str, str] = {}
    for option, value in parse_qsl(query, keep_blank_values=True):
        if option not in (*OPTIONS, *SWITCHES):
            known = ", ".join((*OPTIONS, *SWITCHES))
            raise InvalidArgumentError(f"model repository '{url}': there is no option '{option}'; options are {known}")
        if option in SWITCHES and value not in ("true", "false"):
            raise InvalidArgumentError(f"model repository '{url}': {option} expects true or false, got '{value}'")
        if value != "false" or option not in SWITCHES:
            options[option] = value
    name = options.pop("name", "") or _default_name(place)
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(f"model repository '{url}': '{name}' cannot be the name of a model")
    return HubModel(place, name, options)


def _default_name(place: str) -> str:
    """The last part of a hub id or directory, as `conch deploy` names models."""
    last = (place if place.startswith("/") else place.partition("@")[0]).rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-.") or "model"
