"""Checkpoints from a line each: a model class, a tokenizer or processor, and the sizes that make the model tiny."""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call, attr-defined, assignment"

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from . import tokenization
from .text import save_generator
from .weights import randomise

Write = Callable[[Path], None]
Tune = Callable[[Any], None]

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
"""How most configurations spell the sizes of a transformer."""

SQUARE = {"height": 32, "width": 32}


def model_of(name: str, **entries: Any) -> PreTrainedModel:
    """An instance of the class `name` of transformers; configurations inside are dictionaries or instances."""
    made: type[PreTrainedModel] = getattr(transformers, name)
    configuration: type[PreTrainedConfig] = made.config_class
    return made(configuration(**entries))


def reads_text(
    model: str, tokenizer: Callable[[], PreTrainedTokenizerBase], *, tune: Tune | None = None, **entries: Any
) -> Write:
    """A model that reads text, with the vocabulary and special tokens of its tokenizer."""

    def write(directory: Path) -> None:
        tokens = tokenizer()
        special = {"pad_token_id": tokens.pad_token_id, "bos_token_id": tokens.bos_token_id}
        special["eos_token_id"] = tokens.eos_token_id if tokens.eos_token_id is not None else tokens.sep_token_id
        made = model_of(model, **{"vocab_size": len(tokens), **special, **entries})
        randomise(made)
        if tune:
            tune(made)
        made.save_pretrained(directory)
        tokens.save_pretrained(directory)

    return write


def writes_text(model: str, **entries: Any) -> Write:
    """A model that continues prompts and answers conversations."""

    def write(directory: Path) -> None:
        tokens = tokenization.chat()
        special = {"bos_token_id": None, "eos_token_id": tokens.convert_tokens_to_ids("<|im_end|>")}
        made = model_of(model, vocab_size=len(tokens), pad_token_id=tokens.pad_token_id, **special, **entries)
        save_generator(directory, made, tokens)
        tokens.save_pretrained(directory)

    return write


def looks(
    model: str, processor: Callable[[], Any], *, gain: float = 1.0, tune: Tune | None = None, **entries: Any
) -> Write:
    """A model that looks at images, or hears sounds."""

    def write(directory: Path) -> None:
        made = model_of(model, **entries)
        randomise(made, gain=gain)
        if tune:
            tune(made)
        made.save_pretrained(directory)
        processor().save_pretrained(directory)

    return write


def pictures(processor: str, module: str, **entries: Any) -> Callable[[], Any]:
    """The image processor `processor` of transformers' `models.module`, the one that runs without torchvision."""

    def make() -> Any:
        import importlib

        found = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
        return getattr(found, processor)(**entries)

    return make
