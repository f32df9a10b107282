"""Light text parts give the tokens, and the answers around the network, that transformers gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.deploy.split.parts import CannotSplit
from conch.deploy.split.tokenizer import Tokenization, light_decoder, light_tokenizer
from conch.errors import BackendError
from tests.unit.deploy.conftest import Deployed
from tests.unit.deploy.stand_in import LocalModel, TritonError
from tests.unit.deploy.templates.part import load_part, settings_of, tensors_of, text_rows

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = (
    "The wind came in from the sea.",
    "naïve Ünïcödé 東京 \U0001f41a, 4711 and\ta tab\n",
    " ",
    "We walked along the harbour in Lisbon and Maria bought two red apples.",
)
LONG = "two red apples and a kite " * 40
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
KINDS = "truncation:bool max_length:int hypothesis_template:template stride:int prompt:str prompt_name:str"
KINDS += " tokenizer_kwargs:json function_to_apply:str normalize:bool"


class Tokenizing:
    """`tokenize_text.py` of a checkpoint beside transformers' tokenizer."""

    def __init__(self, checkpoint: Path, directory: Path, tokenization: Tokenization, **settings: str) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        config = transformers.AutoConfig.from_pretrained(checkpoint)
        own, contents = light_tokenizer(self.tokenizer, config, tokenization)
        names = [name for name in TOKENS if name in (*self.tokenizer.model_input_names, "attention_mask")]
        dims = "TYPE_INT64 -1" if tokenization.reads == "text" else "TYPE_INT64 -1 -1"
        outputs = dict.fromkeys(names, dims)
        outputs |= {"labels": "TYPE_STRING -1", "activation": "TYPE_INT32 1", "normalize": "TYPE_BOOL 1"}
        values = {"task": "text-classification", "request_parameters": KINDS, **settings}
        values |= {key: value for key, value, _ in own}
        inputs = dict.fromkeys(("text", "text_pair", "query", "candidate_labels"), "TYPE_STRING -1")
        self.names = names
        self.model = load_part(directory, "tokenize_text.py", inputs, outputs, values, contents)

    def truth(self, *arguments: Any, **options: Any) -> dict[str, np.ndarray]:
        return dict(self.tokenizer(*arguments, return_tensors="np", return_attention_mask=True, **options))


@pytest.fixture
def tokenizing(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> Callable[..., Tokenizing]:
    def load(name: str, tokenization: Tokenization | None = None, **settings: str) -> Tokenizing:
        return Tokenizing(checkpoint_of(name), tmp_path, tokenization or Tokenization(), **settings)

    return load


def assert_tokens(got: dict[str, np.ndarray], expected: dict[str, np.ndarray], names: Sequence[str]) -> None:
    for name in names:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)
        assert got[name].dtype == np.int64


CHECKPOINTS = (
    "text-classification",
    "text-classification.multi-label",
    "text-generation.qwen2",
    "zero-shot-image-classification",
    "automatic-speech-recognition.whisper",
)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_tokens_are_those_of_transformers(tokenizing: Callable[..., Tokenizing], name: str) -> None:
    part = tokenizing(name)
    for text in (*TEXTS, ""):
        assert_tokens(part.model.ask({"text": text_rows([text])}), part.truth([text]), part.names)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_cut_tokens_are_those_of_transformers(tokenizing: Callable[..., Tokenizing], name: str) -> None:
    part = tokenizing(name)
    for length in (3, 8):
        parameters = {"truncation": True, "max_length": length}
        got = part.model.ask({"text": text_rows([LONG])}, parameters)
        assert_tokens(got, part.truth([LONG], **parameters), part.names)


def test_requests_of_one_batch_are_not_padded_to_each_other(tokenizing: Callable[..., Tokenizing]) -> None:
    part = tokenizing("text-classification")
    asked = [part.model.request({"text": text_rows([text])}) for text in TEXTS]
    for text, outputs in zip(TEXTS, part.model.execute(asked), strict=True):
        assert isinstance(outputs, dict)
        assert_tokens(outputs, part.truth([text]), part.names)


@pytest.mark.parametrize("name", ["text-classification", "text-classification.multi-label"])
def test_rows_of_one_request_are_padded_to_the_longest(tokenizing: Callable[..., Tokenizing], name: str) -> None:
    part = tokenizing(name)
    got = part.model.ask({"text": text_rows(*([text] for text in TEXTS))})
    assert_tokens(got, part.truth(list(TEXTS), padding=True), part.names)


@pytest.mark.parametrize("name", ["text-classification", "text-classification.multi-label"])
def test_pairs_of_texts_are_those_of_transformers(tokenizing: Callable[..., Tokenizing], name: str) -> None:
    part = tokenizing(name)
    for first, second in ((TEXTS[0], TEXTS[3]), (TEXTS[1], ""), ("", TEXTS[1])):
        got = part.model.ask({"text": text_rows([first]), "text_pair": text_rows([second])})
        expected = part.truth(first, second) if second else part.truth(first)
        assert_tokens(got, expected, part.names)


def test_query_goes_with_every_text(tokenizing: Callable[..., Tokenizing]) -> None:
    part = tokenizing("text-ranking", Tokenization("query-texts", "longest_first"))
    texts = ["Maria bought apples.", LONG, "The sea."]
    got = part.model.ask({"query": text_rows(["What did Maria buy?"]), "text": text_rows(texts)})
    expected = part.truth([("What did Maria buy?", text) for text in texts], padding=True, truncation=True)
    assert_tokens({name: got[name][0] for name in part.names}, expected, part.names)
    assert got["labels"].tolist() == [[text.encode() for text in texts]]


@pytest.mark.parametrize("name", ["zero-shot-classification", "zero-shot-classification.bert"])
@pytest.mark.parametrize("premise", ["The soup was cold.", LONG, ""])
def test_labels_become_hypotheses(tokenizing: Callable[..., Tokenizing], name: str, premise: str) -> None:
    part = tokenizing(name, Tokenization("premise-labels", "only_first", template="This example is {}."))
    labels = ["about food", "sport"]
    inputs = {"text": text_rows([premise]), "candidate_labels": text_rows(labels)}
    for template, parameters in (("This example is {}.", {}), ("It is {}!", {"hypothesis_template": "It is {}!"})):
        got = part.model.ask(inputs, parameters)
        pairs = [[premise, template.format(label)] for label in labels]
        expected = part.truth(pairs, padding=True, truncation="only_first")
        assert_tokens({each: got[each][0] for each in part.names}, expected, part.names)


def test_unequal_numbers_of_texts_are_padded_with_rows_without_tokens(tokenizing: Callable[..., Tokenizing]) -> None:
    part = tokenizing("zero-shot-image-classification", Tokenization("texts"))
    got = part.model.ask({"text": text_rows(["a cat", "a dog", "a kite"], ["the sea", "", ""])})
    assert got["attention_mask"].sum(axis=2).astype(bool).tolist() == [[True, True, True], [True, False, False]]
    assert set(got["input_ids"][1, 1].tolist()) == {part.tokenizer.pad_token_id}
    assert got["labels"].tolist() == [[b"a cat", b"a dog", b"a kite"], [b"the sea", b"", b""]]


def test_siglip_texts_are_padded_to_their_fixed_length(tokenizing: Callable[..., Tokenizing]) -> None:
    part = tokenizing("zero-shot-image-classification.siglip", Tokenization("texts", "longest_first", pad_to=64))
    texts = ["a cat", LONG]
    got = part.model.ask({"text": text_rows(texts)}, {"truncation": False})
    expected = part.truth(texts, padding="max_length", max_length=64, truncation=True)
    np.testing.assert_array_equal(got["input_ids"][0], expected["input_ids"])


def test_text_that_is_too_long_is_refused_alone(tokenizing: Callable[..., Tokenizing]) -> None:
    part = tokenizing("text-classification")
    outcomes = part.model.execute([part.model.request({"text": text_rows([text])}) for text in (LONG, TEXTS[0])])
    assert "tokens, the model takes at most 64: send a shorter text or the request parameter trunc" in str(outcomes[0])
    assert isinstance(outcomes[1], dict)
    part.model.model.encoder.may_be_cut = False  # as of tasks without that parameter
    (outcome,) = part.model.execute([part.model.request({"text": text_rows([LONG])})])
    assert str(outcome).endswith("the model takes at most 64: send a shorter text")


def test_request_chooses_activation_and_normalisation(tokenizing: Callable[..., Tokenizing]) -> None:
    part = tokenizing("text-classification", function_to_apply="softmax", normalize="true")
    inputs = {"text": text_rows(["hello"])}
    default = part.model.ask(inputs)
    assert (default["activation"].tolist(), default["normalize"].tolist()) == ([[1]], [[True]])
    chosen = part.model.ask(inputs, {"function_to_apply": "sigmoid", "normalize": "false"})
    assert (chosen["activation"].tolist(), chosen["normalize"].tolist()) == ([[2]], [[False]])
    with pytest.raises(BackendError, match="one of none, softmax, sigmoid, got 'tanh'"):
        part.model.ask(inputs, {"function_to_apply": "tanh"})


def test_prompt_goes_before_the_text(tokenizing: Callable[..., Tokenizing]) -> None:
    prompts = json.dumps({"query": "query: "})
    part = tokenizing("sentence-similarity", task="sentence-embedding", prompts=prompts)
    got = part.model.ask({"text": text_rows(["  the sea "])}, {"prompt_name": "query"})
    assert_tokens(got, part.truth(["query: the sea"]), part.names)
    with pytest.raises(BackendError, match="unknown prompt_name 'passage'"):
        part.model.ask({"text": text_rows(["the sea"])}, {"prompt_name": "passage"})


@pytest.mark.parametrize("name", ["text-to-audio", "automatic-speech-recognition"])
def test_tokenizer_without_a_fast_form_is_refused_with_the_reason(
    checkpoint_of: Callable[[str], Path], name: str
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint_of(name))
    with pytest.raises(CannotSplit, match="is written in Python"):
        light_tokenizer(tokenizer, transformers.AutoConfig.from_pretrained(checkpoint_of(name)), Tokenization())


def test_tokenizer_that_does_something_of_its_own_is_refused(checkpoint_of: Callable[[str], Path]) -> None:
    checkpoint = checkpoint_of("text-classification")
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)

    class Upside(type(tokenizer)):  # type: ignore[misc]
        def __call__(self, *texts: str, **options: Any) -> Any:
            return super().__call__(*(text[::-1] for text in texts), **options)

    odd = Upside.from_pretrained(checkpoint)
    with pytest.raises(CannotSplit, match="makes other input_ids of 'The wind"):
        light_tokenizer(odd, transformers.AutoConfig.from_pretrained(checkpoint), Tokenization())


# postprocessing


def after(whole: LocalModel, directory: Path, template: str, inputs: dict[str, str], contents: Any) -> LocalModel:
    outputs = tensors_of(whole.config.output)
    return load_part(directory, template, inputs, outputs, settings_of(whole), contents)


def labels_of(whole: LocalModel) -> dict[str, bytes]:
    names = whole.model.pipe.model.config.id2label
    return {"labels.json": json.dumps([names[index] for index in range(len(names))]).encode()}


def assert_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if name == "json":
            assert_close(json.loads(got[name][0, 0]), json.loads(value[0, 0]))
        elif value.dtype == object:
            assert got[name].tolist() == value.tolist(), name
        else:
            np.testing.assert_allclose(got[name], value, atol=1e-5, err_msg=name)


def assert_close(got: Any, expected: Any) -> None:
    """Equal JSON, numbers nearly so."""
    if isinstance(expected, dict):
        assert list(got) == list(expected)
        for key in expected:
            assert_close(got[key], expected[key])
    elif isinstance(expected, list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_close(one, other)
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, abs=1e-5)
    else:
        assert got == expected


@pytest.mark.parametrize("name", ["text-classification", "text-classification.multi-label"])
@pytest.mark.parametrize("parameters", [{}, {"top_k": 2}, {"top_k": "null"}, {"top_k": 1, "function_to_apply": "none"}])
def test_classes_are_named_as_the_pipeline_does(
    deployed: Deployed, tmp_path: Path, name: str, parameters: dict[str, Any]
) -> None:
    whole = deployed(name)
    inputs = dict.fromkeys(("logits", "probs"), "TYPE_FP32 -1")
    part = after(whole, tmp_path, "classify.py", inputs, labels_of(whole))
    expected = whole.ask({"text": text_rows([TEXTS[0]])}, parameters)
    got = part.ask({each: expected[each] for each in inputs}, parameters)
    assert_same(got, expected)


def test_scores_are_made_of_logits_where_the_network_makes_none(deployed: Deployed, tmp_path: Path) -> None:
    whole = deployed("text-classification")
    settings = {**settings_of(whole), "function_to_apply": "softmax"}
    inputs, outputs = {"logits": "TYPE_FP32 -1"}, tensors_of(whole.config.output)
    part = load_part(tmp_path, "classify.py", inputs, outputs, settings, labels_of(whole))
    for parameters in ({}, {"function_to_apply": "sigmoid"}, {"function_to_apply": "none"}):
        expected = whole.ask({"text": text_rows([TEXTS[0]])}, parameters)
        got = part.ask({"logits": expected["logits"]}, parameters)
        assert_same(got, expected)


@pytest.mark.parametrize("name", ["fill-mask", "fill-mask.roberta"])
@pytest.mark.parametrize("parameters", [{}, {"top_k": 2}, {"targets": "red,blue,harbour"}])
def test_masks_are_filled_as_the_pipeline_does(
    deployed: Deployed, tmp_path: Path, name: str, parameters: dict[str, Any]
) -> None:
    whole = deployed(name)
    pipe = whole.model.pipe
    _, contents = light_decoder(pipe.tokenizer, pipe.model.config)
    inputs = {"input_ids": "TYPE_INT64 -1", "probs": "TYPE_FP32 -1 -1"}
    part = after(whole, tmp_path, "pick_tokens.py", inputs, contents)
    mask = pipe.tokenizer.mask_token
    for text in (f"The {mask} came in.", f"{mask} walked {mask} the harbour."):
        tokens = pipe.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            logits = pipe.model(**tokens).logits[tokens["input_ids"] == pipe.tokenizer.mask_token_id]
        probs = np.stack([*logits.softmax(-1).numpy(), np.ones(logits.shape[-1])])[None]  # the last pads the request
        got = part.ask({"input_ids": tokens["input_ids"].numpy(), "probs": probs.astype(np.float32)}, parameters)
        assert_same(got, whole.ask({"text": text_rows([text])}, parameters))


def entities_part(whole: LocalModel, directory: Path, dims: str) -> LocalModel:
    pipe = whole.model.pipe
    _, contents = light_decoder(pipe.tokenizer, pipe.model.config)
    inputs = {"text": "TYPE_STRING 1", "logits": f"TYPE_FP32 {dims} -1"}
    inputs |= dict.fromkeys(("input_ids", "starts", "ends", "special_tokens_mask"), f"TYPE_INT64 {dims}")
    return after(whole, directory, "classify_tokens.py", inputs, {**contents, **labels_of(whole)})


def tokens_with_places(whole: LocalModel, directory: Path, reads: Any) -> LocalModel:
    pipe = whole.model.pipe
    own, contents = light_tokenizer(pipe.tokenizer, pipe.model.config, Tokenization(reads, "longest_first"))
    names = ("input_ids", "attention_mask", "starts", "ends", "special_tokens_mask")
    outputs = dict.fromkeys(names, "TYPE_INT64 -1" + (" -1" if reads == "chunks" else ""))
    settings = {**settings_of(whole), **{key: value for key, value, _ in own}}
    return load_part(directory, "tokenize_text.py", {"text": "TYPE_STRING 1"}, outputs, settings, contents)


def logits_of(whole: LocalModel, tokens: dict[str, np.ndarray]) -> np.ndarray:
    names = ("input_ids", "attention_mask")
    with torch.inference_mode():
        return whole.model.pipe.model(**{name: torch.from_numpy(tokens[name]) for name in names}).logits.numpy()


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_entities_are_those_of_the_pipeline(deployed: Deployed, tmp_path: Path, strategy: str) -> None:
    whole = deployed("token-classification")
    before, part = tokens_with_places(whole, tmp_path, "text"), entities_part(whole, tmp_path, "-1")
    parameters = {"aggregation_strategy": strategy, "ignore_labels": '["B-LOC"]'}
    for text in ("Maria walked along the harbour in Lisbon, naïve 東京!", "Lisbon", LONG):
        inputs = {"text": text_rows([text])}
        tokens = before.ask(inputs, parameters)
        got = part.ask({**inputs, **tokens, "logits": logits_of(whole, tokens)}, parameters)
        assert_same(got, whole.ask(inputs, parameters))


def test_overlapping_parts_of_a_long_text_give_the_entities_of_the_pipeline(deployed: Deployed, tmp_path: Path) -> None:
    whole = deployed("token-classification")
    before, part = tokens_with_places(whole, tmp_path, "chunks"), entities_part(whole, tmp_path, "-1 -1")
    parameters = {"aggregation_strategy": "simple", "stride": 7, "ignore_labels": '["none of them"]'}
    for text in (LONG, "Maria walked to Lisbon."):
        inputs = {"text": text_rows([text])}
        tokens = before.ask(inputs, parameters)
        logits = logits_of(whole, {name: value[0] for name, value in tokens.items()})[None]
        assert_same(part.ask({**inputs, **tokens, "logits": logits}, parameters), whole.ask(inputs, parameters))


@pytest.mark.parametrize("below", [0, 1, 2, 1000, None])
def test_parts_that_overlap_by_all_their_tokens_fail_their_request_alone(
    below: int | None, deployed: Deployed, tmp_path: Path
) -> None:
    """The tokenizers library panics where the overlap is all that special tokens leave of a part."""
    whole = deployed("token-classification")
    longest = whole.model.pipe.tokenizer.model_max_length
    stride = -1 if below is None else longest - below if below < 1000 else 10**30
    for model in (whole, tokens_with_places(whole, tmp_path, "chunks")):
        inputs = {"text": text_rows([LONG])}
        asked = [model.request(inputs, {"stride": each}) for each in (str(stride), "7")]
        bad, good = model.execute(asked)
        assert isinstance(bad, TritonError)
        assert bad.code() == TritonError.INVALID_ARG, bad.message()
        assert isinstance(good, dict)


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("name", ["zero-shot-classification", "zero-shot-classification.bert"])
def test_hypotheses_are_ranked_as_the_pipeline_does(
    deployed: Deployed, tmp_path: Path, name: str, multi_label: bool
) -> None:
    whole = deployed(name)
    pipe = whole.model.pipe
    settings = {**settings_of(whole), "entailment": str(pipe.entailment_id)}
    inputs = {"text": "TYPE_STRING 1", "labels": "TYPE_STRING -1", "logits": "TYPE_FP32 -1 -1"}
    outputs = tensors_of(whole.config.output)
    part = load_part(tmp_path, "rank_labels.py", inputs, outputs, settings)
    labels = ["food", "sport", "politics"]
    for chosen in (labels, labels[:1]):
        asked = {"text": text_rows([TEXTS[0]]), "candidate_labels": text_rows(chosen)}
        parameters = {"multi_label": multi_label}
        pairs = [[TEXTS[0], f"This example is {label}."] for label in chosen]
        with torch.inference_mode():
            logits = pipe.model(**pipe.tokenizer(pairs, padding=True, return_tensors="pt")).logits.numpy()
        taken = {"text": asked["text"], "labels": asked["candidate_labels"], "logits": logits[None]}
        assert_same(part.ask(taken, parameters), whole.ask(asked, parameters))


def test_scores_of_labels_are_ranked(deployed: Deployed, tmp_path: Path) -> None:
    settings = {"task": "zero-shot-image-classification"}
    inputs = {"probs": "TYPE_FP32 -1", "labels": "TYPE_STRING -1"}
    part = load_part(tmp_path, "rank_labels.py", inputs, {"json": "TYPE_STRING 1"}, settings)
    probs = np.array([[0.25, 0.5, 0.25], [1.0, 0, 0]], np.float32)
    got = part.ask({"probs": probs, "labels": text_rows(["a", "b", "c"], ["d", "", ""])})
    ranked = [[(each["label"], each["score"]) for each in json.loads(text)] for text in got["json"][:, 0]]
    assert ranked == [[("b", 0.5), ("a", 0.25), ("c", 0.25)], [("d", 1.0)]]
