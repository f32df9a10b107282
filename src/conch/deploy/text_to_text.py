"""A pipeline from texts to texts, as transformers had one: the truth that a deployed model is compared with.

It shares no code with the templates: the library tokenizes, generates and decodes one text after the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conch.deploy.extras import require, transformers
from conch.deploy.languages import Languages, Writing

#: Task -> what the result is called.
NAMES: Mapping[str, str] = {
    "text2text-generation": "generated_text",
    "summarization": "summary_text",
    "translation": "translation_text",
}


class TextToText:
    """Tokenizer and model of a checkpoint, cut as the library's pipelines are: `preprocess`, generate, decode."""

    def __init__(self, task: str, checkpoint: Path, writing: Writing, *, dtype: str, trust_remote_code: bool) -> None:
        library, options = transformers(), {"trust_remote_code": trust_remote_code}
        self.task = task
        self.writing = writing
        self.tokenizer = library.AutoTokenizer.from_pretrained(checkpoint, **options)
        self.model = library.AutoModelForSeq2SeqLM.from_pretrained(checkpoint, dtype=dtype, **options).eval()

    def preprocess(self, text: str, src_lang: str = "", tgt_lang: str = "") -> dict[str, Any]:
        """What the model's encoder reads, and with which token the translation begins."""
        languages = self.writing.languages
        if tgt_lang and languages.codes:
            made = self.tokenizer._build_translation_inputs(
                text, return_tensors="pt", src_lang=src_lang, tgt_lang=tgt_lang
            )
        else:
            pair = (f"{src_lang or '*'} {tgt_lang}").strip()
            made = self.tokenizer(languages.prefixes.get(pair, self.writing.prefix) + text, return_tensors="pt")
        return {name: value for name, value in made.items() if name != "token_type_ids"}

    def __call__(self, text: str, src_lang: str = "", tgt_lang: str = "", **generation: Any) -> list[dict[str, str]]:
        """The pipeline's result."""
        made = self.preprocess(text, src_lang, tgt_lang)
        with require("torch").inference_mode():
            length = {"max_length": None} if "max_new_tokens" in generation else {}
            sequences = self.model.generate(**{**self.writing.generation, **length, **made, **generation})
        texts = self.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        return [{NAMES[self.task]: each} for each in texts]


def writing_of(settings: Mapping[str, str]) -> Writing:
    """How a checkpoint writes, from what its plan tells its template."""
    read = {key: json.loads(settings.get(key, "{}")) for key in ("languages", "prefixes", "generation")}
    return Writing(
        settings.get("prefix", ""),
        Languages(read["languages"], read["prefixes"]),
        read["generation"],
    )
