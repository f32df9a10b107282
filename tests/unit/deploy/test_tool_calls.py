"""How a checkpoint writes calls, told from its chat template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conch.deploy.tool_calls import tool_call_parser

HERMES = '<tool_call>\\n{"name": <name>, "arguments": <args>}\\n</tool_call>'
MISTRAL = "{{ '[TOOL_CALLS] [' }}"
LLAMA = "<|start_header_id|>{% if tools %}{{ '\"parameters\": ' }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "parser"),
    [
        (HERMES, "hermes"),
        (MISTRAL, "mistral"),
        (LLAMA, "llama3"),
        ("<tool_call>\n<function=look>\n</tool_call>", ""),
        ("[TOOL_CALLS]look[ARGS]{}", ""),
        ("<|start_header_id|>{{ message.content }}", ""),
        ([{"name": "default", "template": ""}, {"name": "tool_use", "template": HERMES}], "hermes"),
        (None, ""),
    ],
)
def test_the_template_tells_the_form_of_calls(template: object, parser: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert tool_call_parser(tmp_path) == parser


def test_a_template_in_a_file_of_its_own_counts(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": MISTRAL}))
    (tmp_path / "chat_template.jinja").write_text(HERMES)
    assert tool_call_parser(tmp_path) == "hermes"
    assert tool_call_parser(tmp_path / "nowhere") == ""
