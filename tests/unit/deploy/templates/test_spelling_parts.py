"""Speech heard frame by frame: the light parts around the network give what transformers' pipeline gives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conch.deploy.split.parts import CannotSplit, DoesNotApply
from tests.checkpoints import samples
from tests.unit.deploy.stand_in import NETWORKS, LocalModel
from tests.unit.deploy.templates.part import load_part

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
ctc = pytest.importorskip("conch.deploy.split.ctc")
split_speech = pytest.importorskip("conch.deploy.split.speech")

FRAME = 80
VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdeE.'", "ng"]
SOUND = {"audio": "TYPE_FP32 -1", "sampling_rate": "TYPE_INT32 1"}
HEARD = {"input_values": "TYPE_FP32 -1", "attention_mask": "TYPE_INT32 -1"}
STRIDES = {"strides": "TYPE_INT64 -1 3"}
APART = {"rows_apart": "TYPE_STRING 1"}
TEXT = {
    "text": "TYPE_STRING 1",
    "chunks": "TYPE_STRING -1",
    "timestamps": "TYPE_FP32 -1 2",
    "json": "TYPE_STRING 1",
}
PARAMETERS = "return_timestamps:any chunk_length_s:float stride_length_s:json return_language:bool"


def tokenizer_of(directory: Path, **options: Any) -> Any:
    path = directory / "vocab.json"
    path.write_text(json.dumps({token: number for number, token in enumerate(VOCABULARY)}))
    return transformers.Wav2Vec2CTCTokenizer(str(path), **options)


def logits_of(values: np.ndarray) -> np.ndarray:
    """What a network might hear: a token for each frame, told by the loudest of its samples."""
    frames = values[: len(values) // FRAME * FRAME].reshape(-1, FRAME)
    numbers = (np.abs(frames).max(axis=1) * 1000).astype(int) // 3 % len(VOCABULARY)
    return np.eye(len(VOCABULARY), dtype=np.float32)[numbers]


class Network:
    """A model that answers `logits_of`."""

    main_input_name = "input_values"
    config = SimpleNamespace(model_type="wav2vec2", inputs_to_logits_ratio=FRAME, vocab_size=len(VOCABULARY))

    def __call__(self, input_values: Any, attention_mask: Any) -> Any:
        return SimpleNamespace(logits=torch.stack([torch.from_numpy(logits_of(each.numpy())) for each in input_values]))


def pipe_of(tokenizer: Any) -> Any:
    """The library's pipeline around that network."""
    pipe = transformers.AutomaticSpeechRecognitionPipeline.__new__(transformers.AutomaticSpeechRecognitionPipeline)
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000, do_normalize=False)
    attributes = {"type": "ctc", "tokenizer": tokenizer, "feature_extractor": extractor, "model": Network()}
    pipe.__dict__.update(attributes, _preprocess_params={}, dtype=None)
    return pipe


def expected(pipe: Any, sound: np.ndarray, grain: str | None = None, **cut: Any) -> dict[str, Any]:
    result: dict[str, Any] = pipe.postprocess(
        [pipe._forward(part) for part in pipe.preprocess(sound, **cut)], None, grain
    )
    return result


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_lower_case": True},
        {"clean_up_tokenization_spaces": True},
        {"word_delimiter_token": "e", "replace_word_delimiter_char": "_"},
        {"pad_token": "</s>"},
        {"word_delimiter_token": " "},
    ],
    ids=str,
)
def test_texts_and_times_are_those_of_the_tokenizer(options: dict[str, Any], tmp_path: Path) -> None:
    settings = ctc.spelling_of(pipe_of(tokenizer_of(tmp_path, **options)))
    assert (settings["frame"], settings["sampling_rate"]) == (FRAME, 8000)
    words = ["|", "a", "a", "<pad>", "a", "|", "<pad>", "|", "E", ".", ".", "|", "'", "ng", "d", "</s>"]
    heard = np.array([VOCABULARY.index(word) for word in words])
    tokenizer = tokenizer_of(tmp_path, **options)
    assert ctc.spell(settings, heard[None], [()], None)["text"] == tokenizer.decode(heard)


def test_network_that_knows_more_tokens_than_the_tokenizer_says_unknown(tmp_path: Path) -> None:
    pipe = pipe_of(tokenizer_of(tmp_path))
    pipe.model.config = SimpleNamespace(**{**vars(Network.config), "vocab_size": len(VOCABULARY) + 2})
    assert ctc.spelling_of(pipe)["tokens"][-3:] == ["ng", "<unk>", "<unk>"]


class Parts:
    """The parts around the network, which answers those that ask it for more rows."""

    def __init__(self, pipe: Any, directory: Path) -> None:
        (own, contents), _ = split_speech.light_speech(pipe, pipe.model.config)
        self.asked: list[int] = []
        NETWORKS["network"] = self.network
        shared = {"task": "automatic-speech-recognition", "request_parameters": PARAMETERS, "network": "network"}
        shared |= {"network_inputs": "input_values attention_mask", "network_outputs": "logits"}
        settings = {**shared, "unpadded": " ".join(HEARD), **{key: value for key, value, _ in own}}
        made = {**HEARD, **STRIDES, **APART}
        self.before = load_part(directory, "cut_speech.py", SOUND, made, settings, contents)
        taken = {"logits": "TYPE_FP32 -1 -1", **HEARD, **STRIDES, **APART}
        spelling = {"spelling.json": json.dumps(ctc.spelling_of(pipe)).encode()}
        self.after: LocalModel = load_part(directory, "spell_speech.py", taken, TEXT, shared, spelling)

    def network(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.asked.append(len(tensors["input_values"]))
        return {"logits": np.stack([logits_of(row) for row in tensors["input_values"]])}

    def ask(self, sounds: np.ndarray, **parameters: Any) -> dict[str, np.ndarray]:
        made = self.before.ask({"audio": sounds}, parameters)
        logits = np.stack([logits_of(row) for row in made["input_values"]])
        return self.after.ask({**made, "logits": logits}, parameters)


@pytest.fixture
def pipe(tmp_path: Path) -> Any:
    return pipe_of(tokenizer_of(tmp_path))


@pytest.fixture
def parts(pipe: Any, tmp_path: Path) -> Iterator[Parts]:
    yield Parts(pipe, tmp_path)
    del NETWORKS["network"]


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    loud = np.abs(np.random.default_rng(seed).normal(0, 0.3, int(seconds * 8000)))
    return (samples.waveform(seconds, 8000)[: len(loud)] * loud).astype(np.float32)


@pytest.mark.parametrize(
    "cut", [{}, {"chunk_length_s": 0.31}, {"chunk_length_s": 0.3, "stride_length_s": [0.11, 0.05]}], ids=str
)
@pytest.mark.parametrize("grain", [None, "char", "word"])
def test_parts_answer_as_the_pipeline(cut: dict[str, Any], grain: str | None, pipe: Any, parts: Parts) -> None:
    heard = sound(1.23)
    parameters = {**cut, **({"return_timestamps": grain} if grain else {})}
    if "stride_length_s" in cut:
        parameters["stride_length_s"] = json.dumps(cut["stride_length_s"])
    got, want = parts.ask(heard[None], **parameters), expected(pipe, heard, grain, **cut)
    assert got["text"][0, 0].decode() == want["text"] != ""
    assert [text.decode() for text in got["chunks"][0]] == [chunk["text"] for chunk in want.get("chunks", [])]
    assert (got["chunks"].size > 0) == (grain is not None)
    times = [chunk["timestamp"] for chunk in want.get("chunks", [])]
    np.testing.assert_allclose(got["timestamps"][0], np.array(times, np.float32).reshape(-1, 2), rtol=1e-6)
    assert json.loads(got["json"][0, 0])["text"] == want["text"]
    assert bool(parts.asked) == bool(cut)


def test_sounds_of_unequal_numbers_of_parts_make_one_request(pipe: Any, parts: Parts) -> None:
    """Samples come as rows of one array here, so they are of one length; together they are two requests of a batch."""
    sounds = [sound(0.3, 1), sound(0.9, 2)]
    made = [parts.before.ask({"audio": each[None]}, {"chunk_length_s": 0.4}) for each in sounds]
    strides = np.zeros((2, made[1]["strides"].shape[1], 3), np.int64)
    for row, each in enumerate(made):
        strides[row, : each["strides"].shape[1]] = each["strides"][0]
    outcomes = parts.after.execute(
        [
            parts.after.request(
                {**each, "strides": strides[row : row + 1], "logits": logits_of(each["input_values"][0])[None]}, {}
            )
            for row, each in enumerate(made)
        ]
    )
    for each, outcome in zip(sounds, outcomes, strict=True):
        assert isinstance(outcome, dict)
        assert outcome["text"][0, 0].decode() == expected(pipe, each, chunk_length_s=0.4)["text"]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"return_timestamps": "sentence"}, "return_timestamps should be char or word for this model, got 'sentence'"),
        ({"return_timestamps": False}, "return_timestamps should be char or word for this model, got False"),
        ({"return_language": True}, "return_language is served by Whisper alone"),
    ],
)
def test_wrong_parameters_fail_alone(parameters: dict[str, Any], text: str, parts: Parts) -> None:
    made = parts.before.ask({"audio": sound(0.3)[None]})
    taken = {**made, "logits": logits_of(made["input_values"][0])[None]}
    good, bad = parts.after.execute([parts.after.request(taken), parts.after.request(taken, parameters)])
    assert isinstance(good, dict) and text in str(bad)


@pytest.mark.parametrize(
    ("kind", "refusal", "reason"),
    [("ctc_with_lm", CannotSplit, "searched with a language model"), ("seq2seq_whisper", DoesNotApply, "generates")],
)
def test_texts_that_are_not_spelled_frame_by_frame_are_refused(
    kind: str, refusal: type[CannotSplit], reason: str, pipe: Any
) -> None:
    pipe.type = kind
    with pytest.raises(refusal, match=reason):
        ctc.spelled_speech(SimpleNamespace(pipe=pipe))


def test_tokenizer_that_spells_otherwise_is_refused_with_the_reason(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(pipe.tokenizer)
    spell = kind.convert_tokens_to_string
    monkeypatch.setattr(
        kind, "convert_tokens_to_string", lambda self, tokens, **options: spell(self, tokens[::-1], **options)
    )
    with pytest.raises(CannotSplit, match="Wav2Vec2CTCTokenizer makes other texts or times"):
        ctc.spelling_of(pipe)
    pipe.tokenizer = Numbers()
    with pytest.raises(CannotSplit, match="Numbers spells in a way of its own"):
        ctc.spelling_of(pipe)


class Numbers:
    """A tokenizer without a token between words."""

    def __len__(self) -> int:
        return 3

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return list(map(str, ids))
