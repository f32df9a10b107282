"""Models that write a text of another answer as `generate` and `batch_decode`, whole and in parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from conch.deploy.split.text_to_text import language_marks
from conch.deploy.split.tokenizer import Tokenization, light_decoder, light_tokenizer
from conch.errors import BackendError, Code
from tests.checkpoints import ARCHITECTURES, missing, reference, wire
from tests.unit.deploy.conftest import Deployed
from tests.unit.deploy.stand_in import LocalModel, TritonError
from tests.unit.deploy.templates.part import load_part, settings_of, tensors_of, text_rows

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TOKENS = {"input_ids": "TYPE_INT64 -1", "attention_mask": "TYPE_INT64 -1"}
STATES = {"encoder_hidden_states": "TYPE_FP32 -1 -1"}
NEW_TOKENS = {"new_tokens": "TYPE_INT64 -1 -1"}
TEXTS = ("Two red apples.", "We walked along the harbour in Lisbon and Maria bought a blue kite.", "No.")
#: Every way in which texts are prefixed, marked and begun.
NAMES = ("text2text-generation", "text2text-generation.bart", "summarization.t5", "translation", "translation.t5")

Parameters = Mapping[str, Any]


class Parts(NamedTuple):
    before: LocalModel
    core: LocalModel
    after: LocalModel

    def ask(self, text: str, parameters: Parameters, **more: np.ndarray) -> dict[str, np.ndarray]:
        sent = dict(parameters)
        tokens = self.before.ask({"text": text_rows([text])}, sent)
        return self.after.ask(self.core.ask({**tokens, **more}, sent), sent)


@pytest.fixture(scope="module")
def parts_of(
    deployed: Deployed, checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Parts]:
    made: dict[str, Parts] = {}

    def load(name: str, *, states: bool = False) -> Parts:
        key = f"{name} {states}"
        if key not in made:
            whole, directory = deployed(name), tmp_path_factory.mktemp("parts")
            settings, writer = settings_of(whole), whole.model.writer
            inputs, outputs = tensors_of(whole.config.input), tensors_of(whole.config.output)
            _, contents = light_tokenizer(writer.tokenizer, writer.model.config, Tokenization())
            if marks := language_marks(writer.tokenizer, contents, list(writer.languages.tokens)):
                contents = {**contents, "languages.json": json.dumps(marks).encode()}
            before = load_part(directory, "tokenize_source.py", inputs, TOKENS, settings, contents)
            read = {**TOKENS, **STATES} if states else TOKENS
            core = load_part(
                directory,
                "generate_target.py",
                read,
                NEW_TOKENS,
                settings,
                checkpoint=checkpoint_of(name),
                weights=True,
            )
            _, contents = light_decoder(writer.tokenizer, writer.model.config)
            after = load_part(directory, "decode_text.py", NEW_TOKENS, outputs, settings, contents)
            made[key] = Parts(before, core, after)
        return made[key]

    return load


def output_of(model: LocalModel) -> str:
    return str(model.config.output[0].name)


def written(model: LocalModel, *texts: str, **parameters: Any) -> list[Any]:
    """What is written of each text, all asked for in one batch; or its error."""
    outcomes = model.execute([model.request({"text": text_rows([text])}, parameters) for text in texts])
    return [each[output_of(model)][0].tolist() if isinstance(each, dict) else each for each in outcomes]


def refused(model: LocalModel, text: str = "No.", **parameters: Any) -> str:
    """The text of the error the request ends with; it must be the request's fault."""
    with pytest.raises(BackendError) as caught:
        model.ask({"text": text_rows([text])}, parameters)
    assert caught.value.code is Code.INVALID_ARG
    return caught.value.message


def language(name: str) -> dict[str, Any]:
    return dict(ARCHITECTURES[name].samples()[0].kwargs)


@pytest.mark.parametrize("name", [*NAMES, "translation.marian", "translation.m2m100", "translation.nllb"])
def test_model_writes_what_the_library_writes(
    name: str, deployed: Deployed, checkpoint_of: Callable[[str], Path]
) -> None:
    if missing(name):
        pytest.skip("its tokenizer needs sentencepiece")
    model = deployed(name)
    for sample, answer in zip(ARCHITECTURES[name].samples(), reference(name, checkpoint_of(name)), strict=True):
        inputs, parameters = wire.CALLS[ARCHITECTURES[name].task](sample)
        outputs = model.ask(wire.batched(inputs), parameters)
        assert json.loads(outputs["json"][0, 0]) == answer
        assert [text.decode() for text in outputs[output_of(model)][0]] == [each[output_of(model)] for each in answer]


@pytest.mark.parametrize("name", NAMES)
def test_parts_write_what_the_whole_writes(name: str, deployed: Deployed, parts_of: Callable[..., Parts]) -> None:
    whole, parts = deployed(name), parts_of(name)
    for parameters in ({}, {"num_beams": 3, "num_return_sequences": 2, "skip_special_tokens": False}):
        sent = language(name) | parameters
        for text in TEXTS[:2]:
            expected = whole.ask({"text": text_rows([text])}, sent)
            assert {key: each.tolist() for key, each in parts.ask(text, sent).items()} == {
                key: each.tolist() for key, each in expected.items()
            }


@pytest.mark.parametrize("name", ["text2text-generation", "translation"])
def test_states_of_the_encoder_are_all_that_the_generation_takes(
    name: str, deployed: Deployed, parts_of: Callable[..., Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts, sent = deployed(name), parts_of(name, states=True), language(name)
    encoder = parts.core.model.writer.model.get_encoder()
    asked = []
    for text in TEXTS:
        tokens = parts.before.ask({"text": text_rows([text])}, sent)
        with torch.inference_mode():
            states = encoder(**{name: torch.from_numpy(each) for name, each in tokens.items()})[0].numpy()
        asked.append(parts.core.request({**tokens, "encoder_hidden_states": states}, sent))

    def unused(*_: Any, **__: Any) -> None:
        raise AssertionError("the encoder ran again")

    monkeypatch.setattr(encoder, "forward", unused)
    outcomes = parts.core.execute(asked)
    texts = [
        parts.after.ask({"new_tokens": each["new_tokens"]}, sent)[output_of(whole)][0].tolist() for each in outcomes
    ]
    assert texts == written(whole, *TEXTS, **sent)


@pytest.mark.parametrize("name", NAMES)
def test_texts_of_one_batch_are_written_as_alone(name: str, deployed: Deployed) -> None:
    model, sent = deployed(name), language(name)
    assert written(model, *TEXTS, **sent) == [written(model, text, **sent)[0] for text in TEXTS]


def test_each_request_of_a_batch_is_written_as_it_asks(deployed: Deployed) -> None:
    model = deployed("text2text-generation")
    asked: list[dict[str, Any]] = [{}, {"max_new_tokens": 3}, {"num_beams": 2}, {"do_sample": True, "seed": 7}]
    requests = [model.request({"text": text_rows([TEXTS[1]])}, parameters) for parameters in asked]
    together = [each["generated_text"][0, 0] for each in model.execute(requests)]
    assert together == [model.ask({"text": text_rows([TEXTS[1]])}, each)["generated_text"][0, 0] for each in asked]
    assert len(set(together)) == len(asked)


def test_special_tokens_are_those_of_the_text_alone(deployed: Deployed) -> None:
    """Neither the longer texts of a batch nor a returned sequence beside it put padding at the end of a text."""
    model = deployed("text2text-generation.bart")
    (short,), _, _ = written(model, *TEXTS, skip_special_tokens=False)
    tokens, network = model.model.writer.tokenizer, model.model.writer.model
    (sequence,) = network.generate(**tokens(TEXTS[0], return_tensors="pt"))
    assert short.decode() == tokens.decode(sequence)
    assert not short.endswith(b"<pad>")


def test_text_stops_where_a_request_says(deployed: Deployed) -> None:
    model = deployed("text2text-generation")
    ((whole,),) = written(model, TEXTS[1])
    word = whole.decode().split()[1]
    ((cut,),) = written(model, TEXTS[1], stop_sequence=word)
    assert cut.decode().endswith(word) and whole.startswith(cut) and len(cut) < len(whole)


def test_client_that_left_ends_its_text(deployed: Deployed) -> None:
    model = deployed("text2text-generation")
    gone = model.request({"text": text_rows([TEXTS[1]])})
    gone.cancelled = lambda: True
    generation = model.model.writer.write.__globals__["until_gone"].__globals__
    look_s, generation["LOOK_S"] = generation["LOOK_S"], 0.0
    try:
        outcomes = model.execute([gone, model.request({"text": text_rows([TEXTS[0]])})])
    finally:
        generation["LOOK_S"] = look_s
    left, stayed = (each["generated_text"][0, 0] for each in outcomes)
    assert stayed == written(model, TEXTS[0])[0][0]
    assert len(left) < len(written(model, TEXTS[1])[0][0])


def test_translation_begins_with_the_token_of_its_language(deployed: Deployed) -> None:
    model = deployed("translation")
    german = written(model, TEXTS[0], src_lang="en_XX", tgt_lang="de_DE", skip_special_tokens=False)[0][0]
    french = written(model, TEXTS[0], src_lang="en_XX", tgt_lang="fr_XX", skip_special_tokens=False)[0][0]
    assert b"de_DE" in german and b"fr_XX" in french


def test_language_of_one_request_is_not_that_of_the_next(deployed: Deployed, parts_of: Callable[..., Parts]) -> None:
    model, before = deployed("translation"), parts_of("translation").before
    marks = model.model.writer.languages.tokens
    for code, mark in ((None, "en_XX"), ("ja_XX", "ja_XX"), (None, "en_XX")):
        (encoding,) = model.model.reader.encode(["No."], code, None, None)
        tokens = before.ask({"text": text_rows(["No."])}, {"src_lang": code} if code else {})["input_ids"]
        assert encoding["input_ids"].tolist() == tokens.tolist()
        assert tokens[0, -1] == marks[mark]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("translation", {"tgt_lang": "xx"}, "unknown tgt_lang 'xx'; the model knows: ar_AR, cs_CZ"),
        ("translation", {"src_lang": "english"}, "unknown src_lang 'english'"),
        (
            "translation.t5",
            {"src_lang": "de", "tgt_lang": "en"},
            "no translation from src_lang=de to tgt_lang=en; the model knows: en to de, en to fr",
        ),
        ("text2text-generation", {"tgt_lang": "de"}, "unknown request parameters"),
        ("text2text-generation", {"num_beams": "many"}, "'num_beams' should be of kind int"),
        ("text2text-generation", {"generate_kwargs": '{"assistant_model": 1}'}, "are no settings of generate"),
        ("text2text-generation.bart", {}, "tokens, the model takes at most 64: send a shorter text"),
    ],
)
def test_bad_request_is_refused(
    name: str, parameters: dict[str, Any], message: str, deployed: Deployed, parts_of: Callable[..., Parts]
) -> None:
    long = " ".join(TEXTS * 4)
    assert message in refused(deployed(name), long, **parameters)
    if "tgt_lang" in parameters or name.endswith("bart"):
        assert message in refused(parts_of(name).before, long, **parameters)


def test_long_text_is_cut_if_a_request_says(deployed: Deployed, parts_of: Callable[..., Parts]) -> None:
    name, text = "text2text-generation.bart", " ".join(TEXTS * 4)
    expected = written(deployed(name), text, truncation=True)
    assert parts_of(name).ask(text, {"truncation": True})["generated_text"].tolist() == expected


def test_error_of_one_request_leaves_the_others_of_its_batch(deployed: Deployed) -> None:
    model = deployed("translation")
    requests = [model.request({"text": text_rows([TEXTS[0]])}, {"tgt_lang": code}) for code in ("de_DE", "xx", "fr_XX")]
    outcomes = model.execute(requests)
    assert [isinstance(each, TritonError) for each in outcomes] == [False, True, False]
