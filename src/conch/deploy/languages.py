"""What a model that writes a text of another was trained with: prefixes, languages, and how it generates."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.extras import transformers
from conch.errors import InvalidArgumentError, UnavailableError

_PAIR = re.compile(r"translation_(\w+)_to_(\w+)")
_TARGET = re.compile(r">>(.+)<<")
#: Entries of `task_specific_params` that are no settings of `generate`.
_NO_SETTINGS = frozenset({"prefix"})
#: As many tokens as the library's pipelines allowed where a checkpoint says nothing.
_MAX_NEW_TOKENS = 256


class Languages(msgspec.Struct, frozen=True):
    """Which languages a request may name.

    Attributes:
        codes: code -> the token of that language, for tokenizers that mark languages with tokens.
        prefixes: "source target" -> what stands before the text instead; a source of "*" is any.
    """

    codes: Mapping[str, int] = {}
    prefixes: Mapping[str, str] = {}

    def example(self, source: str) -> dict[str, str]:
        """Request parameters for a translation from `source`, the tokenizer's own language; {} without a choice."""
        if self.codes:
            return {"src_lang": source, "tgt_lang": next(code for code in self.codes if code != source)}
        for pair in self.prefixes:
            named = dict(zip(("src_lang", "tgt_lang"), pair.split(), strict=True))
            return {key: code for key, code in named.items() if code != "*"}
        return {}


class Writing(msgspec.Struct, frozen=True):
    """How a checkpoint writes for one task.

    Attributes:
        prefix: what goes before each text.
        languages: what a translation may choose from.
        generation: settings of `generate` beside those of the checkpoint's own generation configuration.
    """

    prefix: str = ""
    languages: Languages = Languages()
    generation: Mapping[str, Any] = {}

    def settings(self) -> list[tuple[str, str, str]]:
        """The same as `parameters` of config.pbtxt: key, value, comment."""
        found: list[tuple[str, str, str]] = []
        if self.prefix:
            found.append(("prefix", self.prefix, "what goes before each text"))
        if self.languages.codes:
            codes = json.dumps(dict(self.languages.codes))
            found.append(("languages", codes, "JSON: code of a language -> its token; what src_lang, tgt_lang may say"))
        if self.languages.prefixes:
            prefixes = json.dumps(dict(self.languages.prefixes), ensure_ascii=False)
            found.append(
                ("prefixes", prefixes, "JSON: source and target language (* is any) -> what goes before each text")
            )
        if self.generation:
            settings = json.dumps(dict(self.generation))
            found.append(("generation", settings, "JSON: settings of generate beside the checkpoint's own"))
        return found


def read_writing(checkpoint: Checkpoint, task: str, *, trust_remote_code: bool = False) -> Writing:
    """How a checkpoint writes for one of the tasks that write a text of another.

    Raises:
        InvalidArgumentError: the checkpoint does not generate from a text.
        UnavailableError: its tokenizer needs a package that is not installed.
    """
    library = transformers()
    config = library.AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=trust_remote_code)
    if not getattr(config, "is_encoder_decoder", False):
        raise InvalidArgumentError(
            f"'{checkpoint.source}' ({' and '.join(checkpoint.architectures) or config.model_type}) has no encoder and "
            f"decoder, which {task} needs; a model that continues texts is deployed with --task text-generation"
        )
    tokenizer = load_tokenizer(checkpoint.path, checkpoint.source, trust_remote_code=trust_remote_code)
    trained = getattr(config, "task_specific_params", None) or {}
    own = dict(trained.get(task) or {})
    languages = languages_of(tokenizer, trained) if task == "translation" else Languages()
    if task == "translation" and not own:
        own = next((dict(value) for key, value in trained.items() if _PAIR.fullmatch(key)), {})
        own.pop("prefix", None)  # that of one pair of languages
    prefix = own.get("prefix", getattr(config, "prefix", None)) or ""
    generation = {key: value for key, value in own.items() if key not in _NO_SETTINGS}
    if not generation.keys() & {"max_length", "max_new_tokens"} and not _says_length(checkpoint.path, config):
        generation["max_new_tokens"] = _MAX_NEW_TOKENS
    return Writing(prefix, languages, generation)


def load_tokenizer(path: Path, source: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a checkpoint.

    Raises:
        UnavailableError: it needs a package that is not installed.
    """
    try:
        return transformers().AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (ImportError, ValueError) as error:
        if "sentencepiece" not in str(error).lower():
            raise
        raise UnavailableError(
            f"the texts of '{source}' are tokenized by sentencepiece: pip install sentencepiece, where models are "
            "deployed and served"
        ) from error


def languages_of(tokenizer: Any, trained: Mapping[str, Any]) -> Languages:
    """The languages that a tokenizer has tokens for, or that a checkpoint's `task_specific_params` name."""
    if hasattr(tokenizer, "_build_translation_inputs"):
        codes = list(getattr(tokenizer, "lang_code_to_id", None) or tokenizer.extra_special_tokens)
        spelled = getattr(tokenizer, "lang_code_to_token", {})
        return Languages({code: tokenizer.convert_tokens_to_ids(spelled.get(code, code)) for code in codes})
    prefixes = {
        f"{pair[1]} {pair[2]}": value.get("prefix", "")
        for key, value in trained.items()
        if (pair := _PAIR.fullmatch(key))
    }
    for token in getattr(tokenizer, "supported_language_codes", ()):
        if target := _TARGET.fullmatch(token):
            prefixes[f"* {target[1]}"] = f"{token} "
    return Languages(prefixes=prefixes)


def _says_length(path: Path, config: Any) -> bool:
    library = transformers()
    if (path / "generation_config.json").is_file():
        found = library.GenerationConfig.from_pretrained(path)
    else:
        found = library.GenerationConfig.from_model_config(config)
    return found.max_length is not None or found.max_new_tokens is not None
