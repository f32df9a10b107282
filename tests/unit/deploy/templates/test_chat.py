"""Chat templates give the prompts that transformers makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from conch.deploy.split.light import light_module

chat_templates = pytest.importorskip("transformers.utils.chat_template_utils")

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
USER = {"role": "user", "content": " Who are you?\n"}
ANSWER = {"role": "assistant", "content": "One, two, "}
CHATML = (
    "{%- for message in messages %}\n    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
    "{{- '<|im_end|>\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"
)
TRIMMED = "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n  {% if loop.last %}!{% endif %}\n{% endfor %}"
TEMPLATES = {
    "chatml": CHATML,
    "trimmed": TRIMMED,
    "tokens": "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% if not loop.last %}{{ eos_token }}{% endif %}"
    "{% endfor %}",
    "loop controls": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.content }}"
    "{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "json": "{{ messages | tojson }}{{ messages | tojson(indent=2) }}{{ {'<': '&é'} | tojson }}",
    "namespace": "{% set ns = namespace(n=0, self=1) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}{{ dict(a=1) }}{{ dict.fromkeys('ab') }}{{ messages[-1].content }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|{% endfor %}",
    "thoughts": "{% for m in messages %}<{{ m.reasoning_content }}|{{ m.thinking }}>{{ m.content }}{% endfor %}",
    "nothing": "{{ tools is none }}{{ documents is none }}{% for m in messages %}{{ m.name is defined }}{% endfor %}"
    "{{ messages[-1].content }}",
    "year": "{{ strftime_now('%Y') }}{{ messages[-1].content }}",
    "refuses": "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}"
    "{{ messages[0].content }}",
}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "question": [USER],
    "system": [{"role": "system", "content": "Be <brief> é"}, USER],
    "null": [{**USER, "name": None}],
    "several": [USER, ANSWER, USER, ANSWER, USER],
    "continued": [USER, ANSWER],
    "continued, empty": [USER, {"role": "assistant", "content": ""}],
    "continued in parts": [USER, {"role": "assistant", "content": [{"type": "text", "text": "One"}, {"type": "end"}]}],
    "thoughts": [USER, {**ANSWER, "reasoning": "Easy."}, USER],
}


def rendered(template: str, messages: list[dict[str, Any]]) -> str | None:
    """What transformers makes of a conversation; None if it refuses it."""
    continued = messages[-1]["role"] == "assistant"
    try:
        (prompts, _) = chat_templates.render_jinja_template(
            [chat_templates._normalize_chat_messages(messages)],
            chat_template=template,
            continue_final_message=continued,
            add_generation_prompt=not continued,
            **TOKENS,
        )
    except Exception:
        return None
    return str(prompts[0])


def light(template: str | None, messages: list[dict[str, Any]]) -> str:
    prompt: str = light_module("light_chat").ChatTemplate(template, TOKENS).prompt(messages)
    return prompt


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_prompt_is_that_of_transformers(name: str, conversation: str) -> None:
    template, messages = TEMPLATES[name], CONVERSATIONS[conversation]
    expected = rendered(template, messages)
    if expected is None:
        with pytest.raises(ValueError, match=r"chat template|last message"):
            light(template, messages)
    else:
        assert light(template, messages) == expected


def test_what_a_template_refuses_is_told_in_its_words() -> None:
    with pytest.raises(ValueError, match="the chat template refuses the conversation: user first"):
        light(TEMPLATES["refuses"], CONVERSATIONS["system"])


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace(_x=1) %}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{{ dict.__init__.__globals__ }}",
        "{{ messages.nothing.at.all }}",
    ],
)
def test_template_reaches_nothing_but_its_conversation(template: str) -> None:
    with pytest.raises(ValueError, match="the chat template refuses the conversation"):
        light(template, [USER])


@pytest.mark.parametrize(
    ("messages", "text"),
    [([], "`messages` is empty"), ([{"role": "user"}], "each message needs a `role` and a `content`")],
)
def test_broken_conversation_is_refused(messages: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        light(CHATML, messages)


def test_checkpoint_without_chat_template_asks_for_text() -> None:
    with pytest.raises(ValueError, match="no chat template: send the input `text`"):
        light(None, [USER])
