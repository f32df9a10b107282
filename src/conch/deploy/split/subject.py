"""What a splitter is given: the plan of approach 1, and the library's own model of the checkpoint."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.plan import Plan

#: Arguments of `forward` that every network gets if it knows them: no cache of keys and values, no tuples.
_CONSTANTS = {"use_cache": False, "return_dict": True}


class Subject(msgspec.Struct, frozen=True):
    """A checkpoint on the operating table.

    Attributes:
        plan: what approach 1 would serve; the ensemble has the same inputs, outputs and request parameters.
        pipe: its pipeline (or SentenceTransformer, CrossEncoder) in FP32 on the CPU, in evaluation mode.
        checkpoint: its files.
        fold: put arithmetic after the network (softmax, pooling, ...) into the exported graph.
    """

    plan: Plan
    pipe: Any
    checkpoint: Checkpoint
    fold: bool = True

    @property
    def model(self) -> Any:
        """The network: a transformers model."""
        return getattr(self.pipe, "model", self.pipe)

    @property
    def network(self) -> Any:
        """The torch module that the pipeline calls with what its preprocess made."""
        if self.plan.task.name == "mask-generation":
            return getattr(self.model, "vision_encoder", self.model)
        return self.pipe[0].model if self.plan.task.name == "sentence-embedding" else self.model

    @property
    def settings(self) -> Mapping[str, str]:
        """What approach 1 tells its template."""
        return {key: value for key, value, _ in self.plan.settings}


def accepts(call: Any) -> Mapping[str, inspect.Parameter]:
    """The named parameters of a module's `forward` or of a method."""
    return inspect.signature(getattr(call, "forward", call)).parameters


def model_inputs(names: Sequence[str], call: Any) -> tuple[str, ...]:
    """Those of a tokenizer's or processor's outputs that the network takes."""
    known = accepts(call)
    return tuple(name for name in names if name in known)


def constants(call: Any) -> dict[str, Any]:
    """The arguments that are the same in every call of the network."""
    known = accepts(call)
    return {name: value for name, value in _CONSTANTS.items() if name in known}
