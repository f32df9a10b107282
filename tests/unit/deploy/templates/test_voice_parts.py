"""A voice that reads letter by letter: the light parts around it give what transformers' pipeline gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conch.deploy.checkpoint import Checkpoint
from conch.deploy.split.light import light_module
from conch.deploy.split.parts import CannotSplit, DoesNotApply
from conch.deploy.split.subject import Subject
from tests.unit.deploy.conftest import plan_of
from tests.unit.deploy.templates.part import load_part, text_rows

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
voice = pytest.importorskip("conch.deploy.split.voice")

LETTERS = {"<pad>": 0, "<unk>": 1, **{letter: number for number, letter in enumerate("abcdefgţ '-T", 2)}}
PARAMETERS = "speaker_id:int seed:int generate_kwargs:generation"
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


def test_other_models_and_tokenizers_are_refused() -> None:
    with pytest.raises(CannotSplit, match="SimpleNamespace does not read letter by letter"):
        voice.letters_of(SimpleNamespace())
    other = SimpleNamespace(config=SimpleNamespace(model_type="speecht5"))
    with pytest.raises(DoesNotApply, match="SimpleNamespace does not read letter by letter"):
        voice.text_to_audio(SimpleNamespace(model=other, pipe=None))
    several = SimpleNamespace(config=SimpleNamespace(model_type="vits", num_speakers=4))
    with pytest.raises(CannotSplit, match="who speaks is chosen by each request"):
        voice.text_to_audio(SimpleNamespace(model=several, pipe=None))


SHARED = {"task": "text-to-audio", "request_parameters": PARAMETERS}
LETTERS_OUT = {
    "input_ids": "TYPE_INT64 -1",
    "attention_mask": "TYPE_INT64 -1",
    "duration_noise": "TYPE_FP32 2 -1",
    "seed": "TYPE_INT64 1",
}


def numbering(directory: Path) -> Any:
    contents = {"letters.json": json.dumps(voice.letters_of(tokenizer_of(directory))).encode()}
    return load_part(directory, "number_letters.py", {"text": "TYPE_STRING 1"}, LETTERS_OUT, SHARED, contents)


def test_a_seed_is_handed_on_with_the_numbers_drawn_of_it(tmp_path: Path) -> None:
    part, asked = numbering(tmp_path), {"text": text_rows(["a bad cab"], ["a"])}
    got = part.ask(asked, {"seed": 7})
    assert got["seed"].tolist() == [[7], [7]]
    for row in range(2):
        letters = int(got["attention_mask"][row].sum())
        torch.manual_seed(7)
        want = torch.randn(2, letters).numpy()
        np.testing.assert_allclose(got["duration_noise"][row][:, :letters], want, atol=1e-6)
    assert part.ask(asked, {"seed": -1})["seed"].tolist() == [[2**32 - 1]] * 2  # as PyTorch has it


def test_without_a_seed_every_text_draws_its_own(tmp_path: Path) -> None:
    part = numbering(tmp_path)
    seeds = [seed for _ in range(3) for (seed,) in part.ask({"text": text_rows(["a"], ["a"])})["seed"].tolist()]
    assert len(set(seeds)) == 6


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**40 + 7, -3])
@pytest.mark.parametrize("count", [5, 6, 16, 61, 64])
def test_normal_numbers_are_those_of_pytorch(seed: int, count: int) -> None:
    normal = light_module("light_noise").Normal(seed)
    torch.manual_seed(seed)
    transposed = torch.zeros(1, 6, 5).transpose(1, 2)
    for want, got in (
        (torch.randn(count), normal.draw(count)),
        (torch.randn_like(transposed).transpose(1, 2).reshape(-1), normal.draw(30, contiguous=False)),
        (torch.randn(3), normal.draw(3)),
        (torch.randn(4), normal.draw(4)),
    ):
        np.testing.assert_allclose(got, want.numpy(), atol=1e-6)


@pytest.mark.parametrize("noise_scale", [0.667, 0.0])
def test_latents_are_those_that_the_model_draws(
    checkpoint_of: Callable[[str], Path], noise_scale: float, tmp_path: Path
) -> None:
    pipe = transformers.pipeline("text-to-audio", model=str(checkpoint_of("text-to-audio")))
    model, heard = pipe.model, []
    model.noise_scale = noise_scale
    encoded = pipe.tokenizer("hello shell", return_tensors="pt")
    model.flow.register_forward_pre_hook(lambda module, arguments: heard.append(arguments[0]))
    with torch.inference_mode():
        torch.manual_seed(3)
        model(**encoded)
        letters = encoded["input_ids"].shape[1]
        torch.manual_seed(3)
        read = voice.Reading(model)(encoded["input_ids"], encoded["attention_mask"], torch.randn(1, 2, letters))
    names = ("log_durations", "prior_means", "prior_log_variances")
    channels = model.config.flow_size
    inputs = {"log_durations": "TYPE_FP32 -1", "attention_mask": "TYPE_INT64 -1", "seed": "TYPE_INT64 1"}
    inputs |= dict.fromkeys(names[1:], f"TYPE_FP32 -1 {channels}")
    settings = {"noise_scale": repr(noise_scale), "speaking_rate": "1.0", "duration_noise": "true"}
    part = load_part(tmp_path, "draw_latents.py", inputs, {"latents": f"TYPE_FP32 {channels} -1"}, SHARED | settings)
    sent = {name: tensor.numpy() for name, tensor in zip(names, read, strict=True)}
    sent |= {"attention_mask": encoded["attention_mask"].numpy(), "seed": np.array([[3]])}
    padded = {
        name: np.pad(array, [(0, 0), (0, 4), *[(0, 0)] * (array.ndim - 2)])
        for name, array in sent.items()
        if name != "seed"
    }
    for asked in (sent, {**padded, "seed": sent["seed"]}):
        got = part.ask(asked, {"seed": 3})
        np.testing.assert_allclose(got["latents"], heard[0].numpy(), atol=1e-5)


def test_a_voice_that_has_nothing_to_say_says_one_frame(tmp_path: Path) -> None:
    inputs = {"log_durations": "TYPE_FP32 -1", "attention_mask": "TYPE_INT64 -1", "seed": "TYPE_INT64 1"}
    inputs |= dict.fromkeys(("prior_means", "prior_log_variances"), "TYPE_FP32 -1 3")
    settings = {"noise_scale": "0.0", "speaking_rate": "1.0", "duration_noise": "false"}
    part = load_part(tmp_path, "draw_latents.py", inputs, {"latents": "TYPE_FP32 3 -1"}, SHARED | settings)
    prior = np.ones((1, 2, 3), np.float32)
    sent = {"log_durations": np.full((1, 2), -np.inf, np.float32), "attention_mask": np.ones((1, 2), np.int64)}
    got = part.ask({**sent, "prior_means": prior, "prior_log_variances": prior, "seed": np.array([[1]])})
    assert got["latents"].tolist() == [[[0.0]] * 3]


def test_texts_of_bark_are_those_of_its_processor(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    name = "text-to-audio.bark"
    checkpoint = checkpoint_of(name)
    pipe = transformers.pipeline("text-to-audio", model=str(checkpoint))
    subject = Subject(plan_of(name, checkpoint), pipe, Checkpoint(checkpoint, name))
    preprocess, generate = voice.generated(subject).parts
    assert [each.template for each in (preprocess, generate)] == ["tokenize_text.py", "generate.py"]
    made = {spec.name: f"TYPE_INT64 {spec.dims[0]}" for spec in preprocess.outputs}
    settings = {key: value for key, value, _ in preprocess.settings}
    before = load_part(tmp_path, preprocess.template, {"text": "TYPE_STRING 1"}, made, settings, preprocess.contents)
    settings = {key: value for key, value, _ in generate.settings}
    outputs = {"audio": "TYPE_FP32 -1", "sampling_rate": "TYPE_INT32 1"}
    after = load_part(
        tmp_path / "generate", generate.template, made, outputs, settings, checkpoint=checkpoint, weights=True
    )
    for text in ("A bad, bad cab!", "", "the wind came in from the sea, and sang " * 3):
        want = pipe.preprocess(text)
        (part,) = after.model.decode_text(
            {name: each[0] for name, each in before.ask({"text": text_rows([text])}).items()}
        )
        assert {key: value.tolist() for key, value in part.items()} == {key: want[key].tolist() for key in part}
