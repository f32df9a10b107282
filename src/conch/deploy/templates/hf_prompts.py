"""Prompts and conversations to tokens, by the preprocess of the checkpoint's own pipeline."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import jinja2
from transformers.utils.chat_template_utils import Chat


def encode_prompt(pipe: Any, prompt: dict[str, Any], preprocess: dict[str, Any]) -> dict[str, Any]:
    """The tensors of one prompt, `text` or `messages`.

    Raises:
        ValueError: there is no chat template, or it refuses the conversation.
    """
    if "messages" not in prompt:
        return dict(pipe.preprocess(prompt["text"], **preprocess))
    if not getattr(pipe.tokenizer, "chat_template", None):
        raise ValueError("the checkpoint has no chat template: send the input `text` instead of `messages`")
    if not prompt["messages"]:
        raise ValueError("`messages` is empty: expected at least one message")
    if missing := [message for message in prompt["messages"] if "content" not in message]:
        raise ValueError(f"each message needs a `role` and a `content`: {missing[0]}")
    with refusals(TypeError, KeyError, AttributeError):
        return dict(pipe.preprocess(chat_class(pipe)(prompt["messages"]), **preprocess))


@contextlib.contextmanager
def refusals(*others: type[Exception]) -> Iterator[None]:
    """What a chat template raises, and `others`, become errors of the request."""
    try:
        yield
    except (jinja2.TemplateError, *others) as error:
        raise ValueError(f"the chat template refuses the conversation: {error}") from error


def chat_class(pipe: Any) -> Any:
    """What a pipeline takes a conversation as; some have a class of their own."""
    return getattr(sys.modules[type(pipe).__module__], "Chat", Chat)
