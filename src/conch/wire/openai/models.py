"""Which models of the server the API of OpenAI is about, told by their tensors."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from conch.config.schema import ModelConfig
from conch.core.api import ServerApi
from conch.errors import ConchError, NotFoundError
from conch.tensor import DataType
from conch.wire.openai.errors import NoSuchModelError, RefusedError

#: Inputs: a prompt or a text to embed, and a conversation as JSON.
TEXT, MESSAGES = "text", "messages"

#: What models answer with: a text at once, its pieces one by one, a vector.
WHOLE, PIECE, VECTOR = "generated_text", "text", "embeddings"

#: Outputs beside the pieces.
FINISH_REASON, PROMPT_TOKENS, COMPLETION_TOKENS = "finish_reason", "prompt_tokens", "completion_tokens"
LOGPROBS = "logprobs"

_FLOATS = (DataType.FP16, DataType.FP32, DataType.FP64)
_PURPOSES = {
    "chat": "answer conversations: that takes an input 'messages' and an output 'generated_text', or 'text' where it "
    "is decoupled",
    "completion": "continue prompts: that takes an input 'text' and an output 'generated_text', or 'text' where it is "
    "decoupled",
    "embedding": "embed texts: that takes an input 'text' and an output 'embeddings'",
}


class Abilities(msgspec.Struct, frozen=True):
    """What a model can be asked for."""

    chat: bool
    completion: bool
    embedding: bool

    @property
    def any(self) -> bool:
        return self.chat or self.completion or self.embedding


def abilities(config: ModelConfig) -> Abilities:
    """What a model can be asked for, by its tensors."""
    inputs = {spec.name for spec in config.input if spec.data_type is DataType.BYTES}
    required = {spec.name for spec in config.input if not spec.optional}
    outputs = {spec.name: spec.data_type for spec in config.output}
    writes = outputs.get(PIECE if config.decoupled else WHOLE) is DataType.BYTES
    embeds = not config.decoupled and outputs.get(VECTOR) in _FLOATS

    def alone(name: str) -> bool:
        return name in inputs and required <= {name}

    return Abilities(writes and alone(MESSAGES), writes and alone(TEXT), embeds and alone(TEXT))


def find(server: ServerApi, name: str) -> ModelConfig:
    """The configuration of a model that is ready and listed.

    Raises:
        NoSuchModelError: there is none.
    """
    try:
        config = server.model(name, "").config
    except NotFoundError as error:
        raise NoSuchModelError(f"The model '{name}' does not exist or is not ready: {error.message}") from error
    if not abilities(config).any:
        raise NoSuchModelError(f"The model '{name}' neither writes nor embeds texts")
    return config


def find_for(server: ServerApi, name: str, purpose: str) -> ModelConfig:
    """The model of that name for a purpose: "chat", "completion" or "embedding".

    Raises:
        NoSuchModelError: there is none.
        RefusedError: it cannot do that.
    """
    config = find(server, name)
    if not getattr(abilities(config), purpose):
        raise RefusedError("model", f"model '{name}' does not {_PURPOSES[purpose]}")
    return config


def listed(server: ServerApi) -> Iterator[str]:
    """The names of the models that are ready and can be asked for something, sorted."""
    for name in sorted({entry.name for entry in server.repository_index(ready=True)}):
        try:
            if abilities(server.model(name, "").config).any:
                yield name
        except ConchError:  # it went between the two questions, or its name is that of several
            continue
