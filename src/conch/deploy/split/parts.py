"""What an ensemble is made of, as values: the models it wires, before a file of them is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from conch.deploy.split.network import Network
from conch.deploy.tasks import TensorSpec


class PaddedAxis(msgspec.Struct, frozen=True):
    """An axis along which requests of unequal size may be padded to share a batch.

    Attributes:
        symbol: its name in the network's `axes`.
        inputs: input name -> (axis without the batch dimension, value to pad with).
        outputs: output name -> axis without the batch dimension that is cut back.
    """

    symbol: str
    inputs: Mapping[str, tuple[int, float]]
    outputs: Mapping[str, int] = {}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One model of an ensemble, whose directory is `<ensemble>_<suffix>`.

    Attributes:
        suffix: "preprocess", "core", "postprocess", "image_encoder", ...
        stage: "preprocess", "core" or "postprocess": where the time of this model counts.
        summary: what it does, a phrase, for the comment at the head of its config.pbtxt.
        inputs, outputs: its tensors as its config.pbtxt has them, without the batch dimension.
        input_map: own input name -> tensor of the ensemble; those left out are called the same there.
        output_map: likewise for outputs.
        cached: answers to equal inputs come from the response cache.
        merges: requests that arrive together run as one batch.
        instances: how many copies serve; of what runs the network, as many as the user chose.
        asked: it is no step of the ensemble: a Python part asks it, as often as a request wants.
    """

    suffix: str
    stage: str
    summary: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_map: Mapping[str, str] = {}
    output_map: Mapping[str, str] = {}
    cached: bool = False
    merges: bool = True
    instances: int = 1
    asked: bool = False


class PythonPart(Part, frozen=True, kw_only=True):
    """A model.py.

    Attributes:
        template: the file of `conch.deploy.templates` that becomes `model.py`.
        libraries: the files of `conch.deploy.templates` beside it that it imports.
        settings: `parameters` of its config.pbtxt: key, value, comment.
        contents: file name -> what to write into the version directory (a tokenizer, processor settings).
        checkpoint: files of the checkpoint, relative to it, that go into `checkpoint/` of the version directory.
        beside: path in the version directory -> a file that lies elsewhere.
    """

    template: str
    libraries: tuple[str, ...] = ()
    settings: tuple[tuple[str, str, str], ...] = ()
    contents: Mapping[str, bytes] = {}
    checkpoint: tuple[Path, ...] = ()
    beside: Mapping[str, Path] = {}


class CorePart(Part, frozen=True, kw_only=True):
    """A network for an engine.

    Attributes:
        network: what is exported. Its inputs and outputs are the part's.
        padding: axes that may be padded so that unequal requests share a batch; exact thanks to a mask.
        onnxruntime: `parameters` of its config.pbtxt if that engine runs it: key, value, comment.
    """

    network: Network
    padding: tuple[PaddedAxis, ...] = ()
    onnxruntime: tuple[tuple[str, str, str], ...] = ()


class Split(msgspec.Struct, frozen=True):
    """A pipeline broken apart.

    The inputs and outputs of the ensemble are those of the plan, the very tensors approach 1 has. Every output is made
    by exactly one part; a part runs as soon as its inputs exist, and only if an output that the request asks for needs
    it.

    Attributes:
        notes: what whoever deploys should know: why a faster way could not be taken, a line each.
        fallback: what serves the same if a network here cannot be exported; None if nothing does.
    """

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    fallback: Split | None = None

    def part(self, suffix: str) -> Part:
        """The part of that suffix.

        Raises:
            KeyError: there is none.
        """
        for part in self.parts:
            if part.suffix == suffix:
                return part
        raise KeyError(suffix)

    def without_modules(self) -> Split:
        """The same without the networks' torch modules, so that their weights can go."""
        replace = msgspec.structs.replace
        parts = tuple(
            replace(part, network=replace(part.network, module=None)) if isinstance(part, CorePart) else part
            for part in self.parts
        )
        return replace(self, parts=parts, fallback=None)


class CannotSplit(Exception):
    """This checkpoint cannot be broken apart; the text is one line that says why."""


class DoesNotApply(CannotSplit):
    """A splitter is not meant for this checkpoint: nothing that whoever deploys it should know."""
