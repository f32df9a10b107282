"""What goes before a text, and from and to which language it is translated: settings of the model and of requests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

#: Task -> what the text that it writes is called.
WRITTEN = {
    "text2text-generation": "generated_text",
    "summarization": "summary_text",
    "translation": "translation_text",
}


class Languages:
    """The settings `prefix`, `prefixes` and `languages`, as config.pbtxt explains them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.prefix = values.get("prefix", "")
        self.prefixes: dict[str, str] = json.loads(values.get("prefixes", "{}"))
        self.tokens: dict[str, int] = json.loads(values.get("languages", "{}"))

    def check(self, src_lang: str | None, tgt_lang: str | None) -> None:
        """Raise ValueError for a language that the model does not know."""
        for name, code in (("src_lang", src_lang), ("tgt_lang", tgt_lang)):
            if code and not self.tokens and not self.prefixes:
                raise ValueError(f"the model has no choice of languages: leave the request parameter {name} out")
            if code and self.tokens and code not in self.tokens:
                raise ValueError(f"unknown {name} {code!r}; the model knows: {', '.join(sorted(self.tokens))}")

    def before(self, src_lang: str | None, tgt_lang: str | None) -> str:
        """What goes before each text.

        Raises:
            ValueError: the model does not translate between these languages.
        """
        self.check(src_lang, tgt_lang)
        if self.tokens or not (src_lang or tgt_lang):
            return self.prefix
        for pair in (f"{src_lang} {tgt_lang}", f"* {tgt_lang}"):
            if pair in self.prefixes:
                return self.prefixes[pair]
        known = ", ".join(pair.replace("* ", "any ").replace(" ", " to ") for pair in self.prefixes)
        raise ValueError(f"no translation from src_lang={src_lang} to tgt_lang={tgt_lang}; the model knows: {known}")

    def first_token(self, tgt_lang: str | None) -> int | None:
        """The token that a text in this language begins with; None leaves it to the model."""
        return self.tokens[tgt_lang] if tgt_lang and self.tokens else None


def mark(
    encoder: Any, texts: Sequence[str], before: list[int], after: list[int], truncation: str | None
) -> list[list[int]]:
    """The tokens of texts between those that mark their language; `encoder` is a `light_text.TextEncoder`."""
    room = max(encoder.max_length - len(before) - len(after), 1) if encoder.max_length else None
    encodings = encoder.encode(texts, truncation, room, special=False)
    return [[*before, *encoding.ids, *after] for encoding in encodings]
