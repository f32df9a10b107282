"""A voice that reads letter by letter: the light parts around it give what transformers' pipeline gives."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conch.deploy.split.parts import CannotSplit
from tests.unit.deploy.templates.part import load_part, text_rows

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
voice = pytest.importorskip("conch.deploy.split.voice")

LETTERS = {"<pad>": 0, "<unk>": 1, **{letter: number for number, letter in enumerate("abcdefgţ '-T", 2)}}
PARAMETERS = "speaker_id:int generate_kwargs:generation"
TEXTS = ("A bad, bad cab!", "  Tţț don't", "", "<pad>a", "東京", "a\tb")


def tokenizer_of(directory: Path, **options: Any) -> Any:
    path = directory / "vocab.json"
    path.write_text(json.dumps(LETTERS))
    return transformers.VitsTokenizer(str(path), **{"phonemize": False, **options})


@pytest.mark.parametrize(
    "options",
    [{}, {"add_blank": False}, {"normalize": False}, {"language": "ron"}, {"unk_token": "e", "normalize": False}],
    ids=str,
)
def test_numbers_are_those_of_the_tokenizer(options: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, **options)
    try:
        settings = voice.letters_of(tokenizer)
    except CannotSplit as error:  # a tokenizer that finds its special tokens in a text has steps of its own
        assert not tokenizer.normalize and "makes other numbers of" in str(error)
        return
    contents = {"letters.json": json.dumps(settings).encode()}
    made = {"input_ids": "TYPE_INT64 -1", "attention_mask": "TYPE_INT64 -1"}
    shared = {"task": "text-to-audio", "request_parameters": PARAMETERS}
    part = load_part(tmp_path, "number_letters.py", {"text": "TYPE_STRING 1"}, made, shared, contents)
    for text in TEXTS:
        want = tokenizer(text)
        if not want["input_ids"]:
            (outcome,) = part.execute([part.request({"text": text_rows([text])})])
            assert f"no letter that the model knows: {text!r}" in str(outcome)
            continue
        got = part.ask({"text": text_rows([text])})
        assert got["input_ids"][0].tolist() == want["input_ids"]
        assert got["attention_mask"][0].tolist() == want["attention_mask"]


def test_arguments_of_generate_are_refused(tmp_path: Path) -> None:
    contents = {"letters.json": json.dumps(voice.letters_of(tokenizer_of(tmp_path))).encode()}
    shared = {"task": "text-to-audio", "request_parameters": PARAMETERS}
    made = {"input_ids": "TYPE_INT64 -1"}
    part = load_part(tmp_path, "number_letters.py", {"text": "TYPE_STRING 1"}, made, shared, contents)
    asked = {"text": text_rows(["a"])}
    good, bad = part.execute([part.request(asked), part.request(asked, {"generate_kwargs": '{"do_sample": true}'})])
    assert isinstance(good, dict) and "it has no use for generate_kwargs ['do_sample']" in str(bad)


def test_waveform_is_the_sound(tmp_path: Path) -> None:
    settings = {"task": "text-to-audio", "sampling_rate": "8000"}
    outputs = {"audio": "TYPE_FP32 -1", "sampling_rate": "TYPE_INT32 1"}
    part = load_part(tmp_path, "play_waveform.py", {"waveform": "TYPE_FP32 -1"}, outputs, settings)
    spoken = np.random.default_rng(0).normal(0, 0.1, (2, 50)).astype(np.float32)
    got = part.ask({"waveform": spoken})
    np.testing.assert_array_equal(got["audio"], spoken)
    assert got["sampling_rate"].tolist() == [[8000], [8000]]


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"phonemize": True}, "makes phonemes of texts"), ({"is_uroman": True}, "romanizes texts")],
    ids=str,
)
def test_tokenizers_with_steps_of_their_own_are_refused(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(CannotSplit, match=reason):
        voice.letters_of(tokenizer_of(tmp_path, **options))


def test_other_tokenizers_and_vocoders_are_refused() -> None:
    with pytest.raises(CannotSplit, match="does not read letter by letter"):
        voice.letters_of(SimpleNamespace())
    model = SimpleNamespace(config=SimpleNamespace())
    for pipe in (SimpleNamespace(vocoder=model, processor=None), SimpleNamespace(vocoder=None, processor=model)):
        with pytest.raises(CannotSplit, match="needs more around it than letters"):
            voice.text_to_audio(SimpleNamespace(pipe=pipe, model=model))
    with pytest.raises(CannotSplit, match="who speaks is chosen by each request"):
        voice.text_to_audio(SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace(num_speakers=4))))
