"""What a checkpoint says of how it writes: prefixes, languages, settings of generate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.languages import Languages, Writing, load_tokenizer, read_writing
from conch.deploy.text_to_text import writing_of
from conch.errors import InvalidArgumentError, UnavailableError

transformers = pytest.importorskip("transformers")


def told(checkpoint: Path, task: str, tmp_path: Path, **config: Any) -> Writing:
    """What is read of the checkpoint with other entries in its config.json."""
    for path in checkpoint.iterdir():
        if path.suffix == ".json" and path.name != "generation_config.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    read = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(read | config))
    return read_writing(Checkpoint(tmp_path, "owner/name"), task)


@pytest.fixture
def t5(checkpoint_of: Callable[[str], Path]) -> Path:
    return checkpoint_of("translation.t5")


def test_task_has_the_prefix_and_the_settings_that_it_was_trained_with(t5: Path) -> None:
    found = read_writing(Checkpoint(t5, "owner/name"), "summarization")
    assert found.prefix == "summarize: "
    assert found.generation == {"max_length": 16, "num_beams": 2, "early_stopping": True}
    assert found.languages == Languages()


def test_translation_has_a_prefix_for_each_pair_of_languages(t5: Path) -> None:
    found = read_writing(Checkpoint(t5, "owner/name"), "translation")
    assert found.prefix == ""
    assert found.languages.prefixes == {
        "en de": "translate English to German: ",
        "en fr": "translate English to French: ",
    }
    assert found.languages.example("") == {"src_lang": "en", "tgt_lang": "de"}
    assert found.generation == {"max_length": 16, "num_beams": 2}


def test_languages_with_tokens_of_their_own_are_told_from_the_tokenizer(checkpoint_of: Callable[[str], Path]) -> None:
    checkpoint = checkpoint_of("translation")
    codes = read_writing(Checkpoint(checkpoint, "owner/name"), "translation").languages.codes
    tokenizer = load_tokenizer(checkpoint, "owner/name")
    assert {"en_XX", "de_DE", "ja_XX"} <= set(codes)
    assert tokenizer.convert_ids_to_tokens(list(codes.values())) == list(codes)
    assert Languages(codes).example("en_XX") == {"src_lang": "en_XX", "tgt_lang": "ar_AR"}


def test_prefix_of_the_configuration_is_that_of_every_task(t5: Path, tmp_path: Path) -> None:
    found = told(t5, "text2text-generation", tmp_path, prefix="rewrite: ")
    assert found.prefix == "rewrite: "


def test_length_is_bounded_where_the_checkpoint_does_not_say(t5: Path, tmp_path: Path) -> None:
    assert told(t5, "text2text-generation", tmp_path).generation == {"max_new_tokens": 256}


def test_settings_of_the_model_say_all_of_it() -> None:
    writing = Writing("p: ", Languages({"de": 3}, {"* de": ">>de<< "}), {"num_beams": 2})
    assert writing_of({key: value for key, value, _ in writing.settings()}) == writing
    assert Writing().settings() == []


def test_model_without_an_encoder_is_refused(checkpoint_of: Callable[[str], Path]) -> None:
    decoder = Checkpoint(checkpoint_of("text-generation"), "owner/name")
    with pytest.raises(InvalidArgumentError, match=r"'owner/name' \(LlamaForCausalLM\) has no encoder and decoder"):
        read_writing(decoder, "summarization")


def test_tokenizer_that_needs_sentencepiece_says_so(t5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("MarianTokenizer requires the SentencePiece library but it was not found")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", missing)
    with pytest.raises(UnavailableError, match="'owner/name' are tokenized by sentencepiece: pip install"):
        load_tokenizer(t5, "owner/name")
