"""Conversations to prompts: what transformers makes of a chat template, with Jinja alone.

`chat.json` beside model.py says what transformers keeps in several places:

    template        the chat template; null for a checkpoint that has none
    tool_template   that of conversations with tools, where the checkpoint has another one for them
    special_tokens  what the template may use by name (`bos_token`, ...)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes, sandbox, utils

Message = dict[str, Any]

#: Where models keep what they thought; templates read the first, those of gpt-oss the second.
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
#: Put behind the text that is to be continued, to find its end in the prompt. The space tells whether the template
#: keeps the spaces at the end of a message; the text itself is that of transformers, for templates that look at it.
END = "CONTINUE_FINAL_MESSAGE_TAG "


class ChatTemplate:
    """The chat template of a checkpoint."""

    def __init__(
        self, template: str | None, special_tokens: Mapping[str, Any], tool_template: str | None = None
    ) -> None:
        self.special_tokens = dict(special_tokens)
        self.sources = (template, template if tool_template is None else tool_template)
        self.templates = [None if each is None else environment().from_string(each) for each in self.sources]

    def prompt(self, messages: list[Message], tools: list[dict[str, Any]] | None = None) -> str:
        """The prompt for the next answer; a conversation that ends with an answer has that answer continued.

        Args:
            tools: functions that the model may call.

        Raises:
            ValueError: there is no template, or it refuses the conversation.
        """
        template, source = self.templates[bool(tools)], self.sources[bool(tools)]
        if template is None or source is None:
            raise ValueError("the checkpoint has no chat template: send the input `text` instead of `messages`")
        if not messages:
            raise ValueError("`messages` is empty: expected at least one message")
        if missing := [message for message in messages if "content" not in message]:
            raise ValueError(f"each message needs a `role` and a `content`: {missing[0]}")
        continued = continues(messages)
        shown = [prepared(message) for message in messages]
        text = ""
        if continued:
            shown[-1], text = marked(shown[-1])
        try:
            prompt = template.render(
                messages=shown,
                tools=tools or None,
                documents=None,
                add_generation_prompt=not continued,
                **self.special_tokens,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"the chat template refuses the conversation: {error}") from error
        if not continued:
            return prompt
        if "content" not in source or text.strip() not in prompt:
            raise ValueError("the chat template leaves out the last message, which should be continued")
        return before_end(prompt)


def continues(messages: list[Message]) -> bool:
    """Whether the last message is the beginning of the answer."""
    return bool(messages[-1]["role"] == "assistant")


def prepared(message: Message) -> Message:
    """A message as templates read it: without what is null, and with its thoughts under the names they may have."""
    message = {key: value for key, value in message.items() if value is not None}
    thoughts = next((message[name] for name in THOUGHTS if name in message), None)
    return message if thoughts is None else {"thinking": thoughts, **message, "reasoning_content": thoughts}


def marked(message: Message) -> tuple[Message, str]:
    """The message with `END` behind its last text, and that text."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": content + END}, content
    parts = [dict(part) for part in content or ()]
    for part in reversed(parts):
        if "text" in part:
            text: str = part["text"]
            part["text"] = text + END
            return {**message, "content": parts}, text
    raise ValueError("the last message has no text to continue")


def before_end(prompt: str) -> str:
    """The prompt up to `END`."""
    place = prompt.rfind(END.strip())
    if place < 0:
        raise ValueError("the chat template leaves out the last message, which should be continued")
    kept = prompt[place : place + len(END)] == END
    return prompt[:place] if kept else prompt[:place].rstrip()


def environment() -> sandbox.ImmutableSandboxedEnvironment:
    """Where chat templates run: they come with the checkpoint and must not reach Python."""
    made = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = to_json
    made.globals |= {
        "raise_exception": refuse,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": MakeDict(),
        "namespace": Namespace,
    }
    return made


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes what HTML would read."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


class MakeDict:
    """`dict` of a template, without the type behind it."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class Namespace(utils.Namespace):
    """`namespace` of a template; names that begin with an underscore are Python's own."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that an attribute may be called `self`
        values = dict(*args[1:], **kwargs)
        for name in values:
            check_name(name)
        utils.Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        check_name(name)
        super().__setitem__(name, value)


def check_name(name: Any) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace has no attribute {name!r}")


class GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}` .. `{% endgeneration %}` marks what a model wrote, for training; here it is its content."""

    tags = frozenset({"generation"})

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("content"), [], [], body).set_lineno(line)

    def content(self, caller: Any) -> str:
        return str(caller())
