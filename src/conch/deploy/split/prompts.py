"""Prompts, conversations and generated texts without transformers, proved equal to what the pipeline makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from conch.deploy.extras import require
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, PythonPart
from conch.deploy.split.stages import python_part
from conch.deploy.split.subject import Subject
from conch.deploy.split.tokenizer import PartFiles, Tokenization, light_decoder, light_encoder, light_tokenizer
from conch.deploy.split.tokens import token_specs
from conch.deploy.tasks import TensorSpec

_TOKENS = ("input_ids", "attention_mask")
#: Prompts that prove the tokens, beside those of every tokenizer.
_PROMPTS = ("The wind came in from the sea.", " two  spaces", "Ünïcödé\n\n東京 \U0001f41a", "x" * 300)
#: Conversations that prove a chat template; those it refuses must be refused here too.
_CONVERSATIONS: tuple[list[dict[str, Any]], ...] = (
    [{"role": "user", "content": "What is this?"}],
    [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": " Who   are you?\n"}],
    [
        {"role": "user", "content": "Ünïcödé <b>'quoted'</b>"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "And then?", "name": None},
    ],
    [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One, two, "}],
    [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "", "reasoning_content": "Easy."}],
    [{"role": "user", "content": [{"type": "text", "text": "In parts."}]}],
    [{"role": "assistant", "content": "First."}],
    [{"role": "oracle", "content": "Unknown role."}],
)
#: What proves it of functions: a conversation in which one was called, and the functions.
_CALL = {"name": "look", "arguments": {"place": "東京", "far": [1, 2.5]}}
_CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "Look out."},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "abcdefghi", "type": "function", "function": _CALL}],
    },
    {"role": "tool", "content": '{"sea": "<calm>"}', "tool_call_id": "abcdefghi", "name": "look"},
]
_PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
_TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "look", "description": "What is <there>?", "parameters": _PLACE}}
]


def prompt_part(subject: Subject) -> PythonPart:
    """`text` or `messages` to tokens.

    Raises:
        CannotSplit: only transformers makes these tokens.
    """
    pipe = subject.pipe
    files = light_prompts(pipe, subject.model.config)
    return python_part(
        subject,
        "preprocess",
        "tokenize_prompt.py",
        [spec for spec in subject.plan.inputs if spec.name in ("text", "messages")],
        token_specs(_TOKENS),
        summary="prompts to tokens",
        files=files,
        stage="preprocess",
    )


def decode_part(subject: Subject, made: Sequence[TensorSpec]) -> PythonPart:
    """Generated tokens to texts.

    Raises:
        CannotSplit: only transformers makes these texts.
    """
    tokenizer = subject.pipe.tokenizer
    if getattr(tokenizer, "response_template", None) is not None:
        raise CannotSplit(f"{type(tokenizer).__name__} takes answers apart, which only transformers can do")
    asked = [spec for spec in subject.plan.inputs if spec.name in ("text", "messages")]
    return python_part(
        subject,
        "postprocess",
        "decode_text.py",
        (*asked, *made),
        [spec for spec in subject.plan.outputs if spec.name in ("generated_text", "json")],
        summary="tokens to texts",
        files=light_decoder(tokenizer, subject.model.config),
    )


def light_prompts(pipe: Any, config: Any) -> PartFiles:
    """Settings and contents of a part that runs `tokenize_prompt.py`.

    Raises:
        CannotSplit: it would give other tokens than the pipeline's preprocess.
    """
    tokenizer = pipe.tokenizer
    _, contents = light_tokenizer(tokenizer, config, Tokenization(padding_side="left"))
    chat = {"template": _template(tokenizer, None), "special_tokens": dict(tokenizer.special_tokens_map)}
    with_tools = _template(tokenizer, _TOOLS)
    if with_tools != chat["template"]:
        chat["tool_template"] = with_tools
    contents = {**contents, "chat.json": json.dumps(chat, ensure_ascii=False).encode()}
    _prove_prompts(pipe, contents)
    if chat["template"] is not None:
        _prove_conversations(pipe, contents, chat)
    return (), contents


def _template(tokenizer: Any, tools: Sequence[Any] | None) -> str | None:
    """The template for a conversation with these tools."""
    if not tokenizer.chat_template:
        return None
    try:
        template: str = tokenizer.get_chat_template(None, tools)
    except ValueError as error:
        raise CannotSplit(f"{type(tokenizer).__name__} has no chat template of its own: {error}") from error
    return template


def _prove_prompts(pipe: Any, contents: Any) -> None:
    encoder = light_encoder(contents)
    for text in _PROMPTS:
        made = pipe.preprocess(text, **pipe._preprocess_params)
        (encoding,) = encoder.encode([text])
        for name in _TOKENS:
            if name not in made:
                raise CannotSplit(f"the pipeline makes no {name} of a prompt")
            if not np.array_equal(encoder.tensors([encoding])[name], made[name].numpy()):
                raise CannotSplit(f"the pipeline makes other {name} of {text[:30]!r} than its tokenizer.json")


def _prove_conversations(pipe: Any, contents: Any, chat: dict[str, Any]) -> None:
    """Refuse a template that light code reads otherwise."""
    conversation = require("transformers.utils.chat_template_utils").Chat
    encoder = light_encoder(contents)
    light = light_module("light_chat").ChatTemplate(**chat)
    asked = [(messages, None) for messages in _CONVERSATIONS]
    for messages, tools in (*asked, *((messages, _TOOLS) for messages in (*_CONVERSATIONS[:2], _CALLED))):
        options = {**pipe._preprocess_params, **({} if tools is None else {"tools": list(tools)})}
        try:
            made = pipe.preprocess(conversation(messages), **options)["input_ids"][0].tolist()
        except Exception:  # whatever a template raises that refuses a conversation
            made = None
        try:
            (encoding,) = encoder.encode([light.prompt(messages, tools)], special=False)
            got = encoding.ids
        except ValueError:
            got = None
        if made != got:
            shown = json.dumps(messages, ensure_ascii=False)
            raise CannotSplit(f"the chat template makes another prompt of {shown[:80]} than transformers makes")
