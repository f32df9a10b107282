"""What the written model.py files do with the requests they are given."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conch.deploy.plan import Choices
from conch.errors import BackendError, Code
from tests import checkpoints
from tests.checkpoints import samples, wire
from tests.unit.deploy.conftest import Deployed
from tests.unit.deploy.stand_in import LocalModel, TritonError

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

LABELS = ["a cat", "a large green circle", "two birds in the sky"]


def texts(*rows: list[str]) -> np.ndarray:
    return np.array([[text.encode() for text in row] for row in rows], dtype=object)


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def files(*contents: bytes) -> np.ndarray:
    array = np.empty((len(contents), 1), dtype=object)
    array[:, 0] = contents
    return array


def refused(model: LocalModel, inputs: dict[str, np.ndarray], parameters: dict[str, Any] | None = None) -> str:
    """The text of the error the request ends with; it must be the request's fault."""
    with pytest.raises(BackendError) as caught:
        model.ask(inputs, parameters)
    assert caught.value.code is Code.INVALID_ARG
    return caught.value.message


class Calls:
    """Counts the calls of a model's forward and the rows of its first tensor."""

    def __init__(self, model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[dict[str, int]] = []
        network = model.model.pipe.model
        forward = network.forward

        def counted(*args: Any, **inputs: Any) -> Any:
            self.rows.append({name: len(value) for name, value in inputs.items() if hasattr(value, "shape")})
            return forward(*args, **inputs)

        monkeypatch.setattr(network, "forward", counted)


# CLIP


def clip_truth(checkpoint: Path, image: Any, labels: list[str]) -> Any:
    from transformers import AutoProcessor, CLIPModel

    model, processor = CLIPModel.from_pretrained(checkpoint), AutoProcessor.from_pretrained(checkpoint)
    with torch.inference_mode():
        return model(**processor(text=labels, images=image, padding=True, return_tensors="pt")).logits_per_image[0]


def test_clip_logits_are_those_of_the_model_on_the_texts_as_given(
    deployed: Deployed, checkpoint_of: Callable[[str], Path]
) -> None:
    name = "zero-shot-image-classification"
    image = samples.image(80, 60)
    outputs = deployed(name).ask({"image": files(encoded(image)), "text": texts(LABELS)})
    truth = clip_truth(checkpoint_of(name), image, LABELS)
    assert outputs["logits_per_image"].shape == (1, 3)
    np.testing.assert_allclose(outputs["logits_per_image"][0], truth, atol=1e-4)
    np.testing.assert_allclose(outputs["probs"][0], truth.softmax(-1), atol=1e-4)
    assert outputs["labels"][0].tolist() == [label.encode() for label in LABELS]


def test_hypothesis_template_gives_the_pipelines_scores(
    deployed: Deployed, checkpoint_of: Callable[[str], Path]
) -> None:
    from transformers import pipeline

    name = "zero-shot-image-classification"
    image = samples.image(80, 60)
    inputs = {"image": files(encoded(image)), "text": texts(LABELS)}
    outputs = deployed(name).ask(inputs, {"hypothesis_template": "This is a photo of {}."})
    truth = pipeline(name, model=str(checkpoint_of(name)), device="cpu")(image, candidate_labels=LABELS)
    answered = json.loads(outputs["json"][0, 0])
    assert [each["label"] for each in answered] == [each["label"] for each in truth]
    assert [each["score"] for each in answered] == pytest.approx([each["score"] for each in truth], abs=1e-4)


def test_batch_of_requests_with_different_labels_runs_each_image_and_text_once(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = deployed("zero-shot-image-classification")
    first, second = encoded(samples.image(80, 60)), encoded(samples.image(64, 64, seed=2))
    asked = [
        {"image": files(first), "text": texts(LABELS)},
        {"image": files(second), "text": texts(LABELS[:1])},
        {"image": files(first), "text": texts(["a kite", LABELS[2]])},
    ]
    alone = [model.ask(inputs) for inputs in asked]
    calls = Calls(model, monkeypatch)
    together = model.execute([model.request(inputs) for inputs in asked])
    assert [(row["pixel_values"], row["input_ids"]) for row in calls.rows] == [(2, 4)]
    for one, many in zip(alone, together, strict=True):
        assert isinstance(many, dict)
        np.testing.assert_allclose(one["logits_per_image"], many["logits_per_image"], atol=1e-4)


# errors of single requests


def test_bad_request_in_a_batch_fails_alone(deployed: Deployed) -> None:
    model = deployed("image-classification")
    good = {"image": files(encoded(samples.image(64, 64)))}
    outcomes = model.execute(
        [
            model.request(good),
            model.request({"image": files(b"\x89PNG no")}),
            model.request(good, {"top_k": "many"}),
            model.request(good, {"top_k": "2"}),
        ]
    )
    assert isinstance(outcomes[0], dict)
    assert isinstance(outcomes[1], TritonError)
    assert "cannot decode the image: expected JPEG, PNG, WebP, ..., got 7 bytes" in outcomes[1].message()
    assert isinstance(outcomes[2], TritonError)
    assert "'top_k' should be of kind int[1..], got 'many'" in outcomes[2].message()
    assert isinstance(outcomes[3], dict)
    assert len(json.loads(outcomes[3]["json"][0, 0])) == 2


def test_request_that_fails_in_the_model_does_not_fail_its_batch(deployed: Deployed) -> None:
    model = deployed("fill-mask")
    outcomes = model.execute(
        [model.request({"text": texts([text])}) for text in ("The sea is [MASK].", "No mask.", "[MASK] is cold.")]
    )
    assert [isinstance(outcome, dict) for outcome in outcomes] == [True, False, True]


def test_unknown_parameter_is_refused_with_the_known_ones(deployed: Deployed) -> None:
    text = refused(deployed("text-classification"), {"text": texts(["hello"])}, {"treshold": 1})
    assert text.startswith("unknown request parameters ['treshold']; text-classification takes: function_to_apply,")


def test_text_that_is_too_long_is_refused_unless_it_may_be_cut(deployed: Deployed) -> None:
    model = deployed("text-classification")
    inputs = {"text": texts(["boat " * 500])}
    assert "the model takes at most 64: send a shorter text or" in refused(model, inputs)
    assert model.ask(inputs, {"truncation": True, "max_length": 64})["probs"].shape == (1, 3)


def test_empty_labels_are_refused(deployed: Deployed) -> None:
    inputs = {"image": files(encoded(samples.image(64, 64))), "text": texts([""])}
    assert "at least one text that is not empty" in refused(deployed("zero-shot-image-classification"), inputs)


# batches


def test_rows_of_a_request_are_padded_to_the_longest(deployed: Deployed) -> None:
    model = deployed("feature-extraction")
    both = model.ask({"text": texts(["sea"], ["the wind came in from the sea"])})
    short = model.ask({"text": texts(["sea"])})["last_hidden_state"]
    length = short.shape[1]
    assert both["attention_mask"][0].tolist() == [1] * length + [0] * (both["attention_mask"].shape[1] - length)
    np.testing.assert_allclose(both["last_hidden_state"][0, :length], short[0], atol=1e-5)
    assert not both["last_hidden_state"][0, length:].any()


def test_texts_of_like_length_share_a_forward_and_others_do_not(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = deployed("text-classification")
    rows = [["sea"], ["boat " * 10], ["sea"], ["boat " * 10]]
    calls = Calls(model, monkeypatch)
    model.execute([model.request({"text": texts(row)}) for row in rows])
    assert sorted(row["input_ids"] for row in calls.rows) == [2, 2]


def test_network_that_sees_padding_is_given_texts_of_equal_length_together(deployed: Deployed) -> None:
    model = deployed("feature-extraction.nystromformer")
    rows = [["Lovely."], ["The sea, the sea."], ["Lovely."]]
    together = model.ask({"text": texts(*rows)})
    for row, text in enumerate(rows):
        alone = model.ask({"text": texts(text)})["last_hidden_state"][0]
        np.testing.assert_allclose(together["last_hidden_state"][row][: len(alone)], alone, atol=1e-5)
    lengths = together["attention_mask"].sum(axis=1)
    assert lengths[0] < lengths[1] <= 1.25 * lengths.mean()
    assert deployed("feature-extraction").model.settings.max_padding == 1.25


def test_images_of_unequal_size_are_not_padded_together(deployed: Deployed) -> None:
    model = deployed("object-detection.detr")
    images = [samples.image(64, 48), samples.image(48, 80, seed=1), samples.image(64, 48, seed=2)]
    alone = [model.ask({"image": files(encoded(image))}, {"threshold": "0.1"}) for image in images]
    together = model.execute([model.request({"image": files(encoded(image))}, {"threshold": 0.1}) for image in images])
    for one, many in zip(alone, together, strict=True):
        assert isinstance(many, dict)
        np.testing.assert_allclose(one["scores"], many["scores"], atol=1e-4)
        assert one["labels"].tolist() == many["labels"].tolist()


def test_only_requested_outputs_are_made(deployed: Deployed) -> None:
    outputs = deployed("text-classification").ask({"text": texts(["hello"])}, outputs=["label"])
    assert list(outputs) == ["label"]


def test_defaults_of_the_configuration_apply_unless_a_request_says_otherwise(deployed: Deployed) -> None:
    model = deployed("text-classification", Choices(parameters={"top_k": 2}))
    inputs = {"text": texts(["hello"])}
    assert len(json.loads(model.ask(inputs)["json"][0, 0])) == 2
    assert len(json.loads(model.ask(inputs, {"top_k": 1})["json"][0, 0])) == 1


def test_model_without_batch_dimension_answers_without(deployed: Deployed) -> None:
    model = deployed("image-classification", Choices(max_batch_size=0, image_input="pixels-fp32"))
    pixels = np.asarray(samples.image(64, 48), dtype=np.float32)
    assert model.ask({"image": pixels})["probs"].shape == (7,)


# images and sounds


def test_pixels_are_the_same_image_as_its_file(deployed: Deployed) -> None:
    image = samples.image(64, 48)
    as_file = deployed("image-classification").ask({"image": files(encoded(image))})
    as_pixels = deployed("image-classification", Choices(image_input="pixels")).ask({"image": np.asarray(image)[None]})
    np.testing.assert_allclose(as_file["logits"], as_pixels["logits"], atol=1e-6)


def test_base64_text_is_the_same_image_as_its_file(deployed: Deployed) -> None:
    model, data = deployed("image-classification"), encoded(samples.image(64, 48))
    truth = model.ask({"image": files(data)})["logits"]
    text = base64.b64encode(data)
    for element in (text, b"data:image/png;base64," + text):
        np.testing.assert_array_equal(model.ask({"image": files(element)})["logits"], truth)


def test_image_is_turned_as_its_camera_says(deployed: Deployed) -> None:
    model, image = deployed("image-classification"), samples.image(64, 48)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned a quarter to the right
    sideways = encoded(image.transpose(Image.Transpose.ROTATE_90), exif=exif)
    np.testing.assert_allclose(
        model.ask({"image": files(sideways)})["logits"],
        model.ask({"image": files(encoded(image))})["logits"],
        atol=1e-6,
    )


def test_sound_is_resampled_and_mixed_to_the_models_rate(deployed: Deployed) -> None:
    soundfile = pytest.importorskip("soundfile")
    model = deployed("audio-classification")
    rate = model.model.pipe.feature_extractor.sampling_rate
    fine, coarse = (np.sin(np.arange(0, 0.8, 1 / each) * 1400).astype(np.float32) / 2 for each in (2 * rate, rate))
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([fine, fine], axis=1), 2 * rate, format="FLAC")
    stereo = model.ask({"audio": files(buffer.getvalue())})["probs"]
    direct = deployed("audio-classification", Choices(audio_input="samples"))
    mono = direct.ask({"audio": coarse[None], "sampling_rate": np.array([[rate]], np.int32)})
    np.testing.assert_allclose(stereo, mono["probs"], atol=0.02)


def test_sound_that_is_none_is_refused(deployed: Deployed) -> None:
    text = refused(deployed("audio-classification"), {"audio": files(b"\x00\x01\x02\x03")})
    assert text.startswith("cannot decode the audio: expected WAV, FLAC, OGG or MP3, got 4 bytes")


# text generation


def test_conversation_answers_with_the_new_message_alone(deployed: Deployed) -> None:
    model = deployed("text-generation")
    messages = [{"role": "user", "content": "Describe the picture."}]
    greedy = {"max_new_tokens": 12, "do_sample": False}
    outputs = model.ask({"messages": texts([json.dumps(messages)])}, greedy)
    conversation = json.loads(outputs["json"][0, 0])[0]["generated_text"]
    assert conversation[0] == messages[0]
    assert outputs["generated_text"][0, 0].decode() == conversation[1]["content"]


def test_several_sequences_are_several_texts(deployed: Deployed) -> None:
    parameters = {"max_new_tokens": 12, "num_beams": 3, "num_return_sequences": 3, "do_sample": False}
    outputs = deployed("text-generation").ask({"text": texts(["The shell"])}, parameters)
    assert outputs["generated_text"].shape == (1, 3)


def test_prompt_and_conversation_together_are_refused(deployed: Deployed) -> None:
    inputs = {"text": texts(["a"]), "messages": texts(["[]"])}
    assert refused(deployed("text-generation"), inputs) == "expected one of the inputs `text` and `messages`"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "url": "http://localhost/secret"},
        {"type": "image", "path": "/etc/passwd"},
        {"type": "video", "path": "/etc/passwd"},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
    ],
)
def test_conversation_cannot_make_the_server_read_files_or_addresses(deployed: Deployed, part: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "What is this?"}]}]
    text = refused(deployed("image-text-to-text"), {"messages": texts([json.dumps(messages)])})
    assert text.startswith('a content part should be {"type": "text", "text": ...} or a bare image or audio')


def test_request_cannot_make_generate_run_foreign_code(deployed: Deployed) -> None:
    parameters = {"generate_kwargs": '{"custom_generate": "someone/code", "trust_remote_code": true}'}
    text = refused(deployed("image-text-to-text"), {"text": texts(["a"])}, parameters)
    assert "'generate_kwargs' should be of kind generation" in text


def test_decision_cannot_make_the_server_read_files(deployed: Deployed) -> None:
    request = {"state": "x", "questions": {"q": {"type": "noul"}}, "assets": {"page": "/etc/passwd"}}
    text = refused(deployed("decision"), {"request": texts([json.dumps(request)])})
    assert text == """asset 'page' should be {"data_base64": ...}"""


def test_video_that_points_to_other_files_is_refused(deployed: Deployed) -> None:
    pytest.importorskip("av")
    model = deployed("video-classification")
    text = refused(model, {"video": files(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")})
    assert text == "expected an encoded video, got a list that points to other files"


@pytest.mark.parametrize(
    ("name", "parameter", "values"),
    [
        ("text-classification", "top_k", ("0", "-1", str(2**63), "1.5", "nan")),
        ("text-classification", "function_to_apply", ("x", "", "{}", 7)),
        ("token-classification", "aggregation_strategy", ("longest", "[]")),
        ("fill-mask", "tokenizer_kwargs", ("[]", "1", "x")),
    ],
)
def test_values_that_no_parameter_has_are_the_fault_of_the_request(
    name: str, parameter: str, values: Sequence[Any], deployed: Deployed
) -> None:
    for value in values:
        told = refused(deployed(name), {"text": texts(["A [MASK]."])}, {parameter: value})
        assert f"'{parameter}' should be of kind" in told


def test_function_is_told_by_its_name_in_any_case(deployed: Deployed) -> None:
    inputs = {"text": texts(["A boat."])}
    both = [deployed("text-classification").ask(inputs, {"function_to_apply": each}) for each in ("SIGMOID", "sigmoid")]
    np.testing.assert_array_equal(both[0]["probs"], both[1]["probs"])


def test_as_many_words_as_there_are_are_told(deployed: Deployed) -> None:
    model = deployed("fill-mask")
    outputs = model.ask({"text": texts(["The [MASK] is red."])}, {"top_k": "1000000"})
    assert outputs["tokens"].shape[-1] == model.model.pipe.model.config.vocab_size


def test_voice_speaks_as_the_vector_says(deployed: Deployed, checkpoint_of: Callable[[str], Path]) -> None:
    name = "text-to-audio.speecht5"
    if absent := checkpoints.missing(name):
        pytest.skip(f"transformers cannot run {name} without {', '.join(absent)}")
    model, asked = deployed(name), checkpoints.sample_inputs(name)
    expected = checkpoints.reference(name, checkpoint_of(name))
    for sample, spoken in zip(asked, expected, strict=True):
        inputs, parameters = wire.CALLS["text-to-audio"](sample)
        got = model.ask(wire.batched(inputs), parameters)
        assert got["sampling_rate"].tolist() == [[spoken["sampling_rate"]]]
        np.testing.assert_allclose(got["audio"][0], spoken["audio"].reshape(-1), atol=1e-5)
    inputs, parameters = wire.CALLS["text-to-audio"](asked[0])
    other = {**inputs, "speaker_embeddings": -inputs["speaker_embeddings"]}
    assert not np.array_equal(model.ask(wire.batched(other), parameters)["audio"][0], expected[0]["audio"])
    told = refused(model, wire.batched({**inputs, "text": wire.texts("a" * 200)}))
    assert "the model takes at most 120: send a shorter text" in told
    told = refused(model, wire.batched(inputs), {"generate_kwargs": json.dumps({"vocoder": 1})})
    assert "['vocoder'] are no settings of generate" in told
