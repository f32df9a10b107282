"""How a checkpoint writes calls of functions, told from its chat template."""

from __future__ import annotations

from pathlib import Path

from conch.deploy.checkpoint import read_json

#: The setting that tells it to the API of OpenAI.
TOOL_CALL_PARSER = "tool_call_parser"

#: Texts of a template, all of which tell a form; the first that fits counts.
_MARKS = (
    ("mistral", ("[TOOL_CALLS]",)),
    ("hermes", ("<tool_call>", "</tool_call>", '"arguments"')),
    ("llama3", ("<|start_header_id|>", "tools", '"parameters"')),
)
#: What tells a form that no parser reads: XML instead of JSON.
_UNREAD = ("<function=", "<arg_key>", "[ARGS]")


def tool_call_parser(checkpoint: Path) -> str:
    """The parser's name; "" where the template knows no tools, or another form."""
    template = _template(checkpoint)
    if any(mark in template for mark in _UNREAD):
        return ""
    return next((name for name, marks in _MARKS if all(mark in template for mark in marks)), "")


def _template(checkpoint: Path) -> str:
    """The chat template, that of conversations with tools where there are several."""
    file = checkpoint / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    found = read_json(checkpoint / "tokenizer_config.json").get("chat_template") or ""
    if isinstance(found, list):
        named = {each.get("name"): each.get("template") or "" for each in found if isinstance(each, dict)}
        found = named.get("tool_use") or named.get("default") or ""
    return str(found)
