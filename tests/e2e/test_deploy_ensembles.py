"""Every task that can be broken apart, deployed as an ensemble, answers what the library's own pipeline answers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
import tritonclient.http as triton

from tests import checkpoints
from tests.checkpoints import wire
from tests.serving import ServerProcess, serving

pytest.importorskip("transformers", reason="deploying needs transformers: pip install 'conch[hf]'")
pytest.importorskip("onnxruntime", reason="ensembles need an engine: pip install 'conch[onnxruntime]'")

from conch.deploy import run
from conch.deploy.export import CannotExport, Exported, ExportOptions, Rejection
from conch.deploy.family import Family
from conch.deploy.run import Order, Written, build, check, make, write
from conch.deploy.split import splitters
from conch.deploy.split.network import Network
from conch.deploy.verify import Verification, table
from conch.errors import ConchError
from conch.inprocess.loaded import InferModel, loaded_models
from tests.checkpoints.in_process import InProcessModel, loaded
from tests.e2e.test_deploy_tasks import ask, ask_rows, differences, unpacked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LIGHT = (
    "any-to-any",
    "audio-classification",
    "audio-classification.ast",
    "automatic-speech-recognition",
    "depth-estimation",
    "depth-estimation.zoedepth",
    "document-question-answering",
    "document-question-answering.donut",
    "feature-extraction",
    "fill-mask",
    "fill-mask.roberta",
    "image-classification",
    "image-classification.convnext",
    "image-feature-extraction",
    "image-segmentation",
    "image-segmentation.detr",
    "image-segmentation.eomt",
    "image-segmentation.eomt-semantic",
    "image-segmentation.mask2former",
    "image-segmentation.maskformer",
    "image-segmentation.oneformer",
    "mask-generation",
    "object-detection",
    "object-detection.detr",
    "sentence-similarity",
    "text2text-generation",
    "text-classification",
    "text-classification.distilbert",
    "text-classification.multi-label",
    "text-ranking",
    "text-to-audio",
    "token-classification",
    "video-classification",
    "translation.m2m100",
    "translation.marian",
    "zero-shot-audio-classification",
    "zero-shot-classification",
    "zero-shot-classification.bert",
    "zero-shot-image-classification",
    "zero-shot-image-classification.siglip",
    "zero-shot-object-detection",
    "zero-shot-object-detection.owlv2",
)
"""Checkpoints whose preprocess and postprocess need no transformers."""

PIXELS = {"image-segmentation.maskformer": 1e-3}
"""The share of a mask's pixels that may differ, of checkpoints of which two queries are as sure of one: their scores
differ there by less (0.0000004) than the engine's rounding changes what the network says (0.000005)."""

GENERIC = (
    "decision",
    "text-generation",
    "text-to-audio.musicgen",
)
"""One checkpoint for each way to keep the pipeline's own steps; they start slowly, so not all of them."""


def say(text: str) -> None:
    print(text)


def watch(what: str, done: float) -> None:
    """Nobody watches."""


def order(checkpoint_name: str, directory: Path, **changes: Any) -> Order:
    checkpoint = checkpoints.build(checkpoint_name, directory / "checkpoints")
    settings: dict[str, Any] = {
        "task": checkpoints.ARCHITECTURES[checkpoint_name].task,
        "name": checkpoint_name,
        "approach": "ensemble",
        "export": ExportOptions(backend="onnxruntime"),
    }
    return Order(str(checkpoint), directory / "models", **(settings | changes))


async def answers(written: Written, name: str) -> tuple[Verification, list[Any], list[Any]]:
    """The deploy's own verification, and the answers to the checkpoint's samples, alone and together."""
    calls = [wire.CALLS[checkpoints.ARCHITECTURES[name].task](sample) for sample in checkpoints.sample_inputs(name)]
    async with loaded_models(written.family.staging, *written.loaded) as infer:

        @asynccontextmanager
        async def opened(repository: Path, *models: str) -> AsyncIterator[InferModel]:
            yield infer

        async def one(call: wire.Call) -> dict[str, Any]:
            outputs = await infer(written.plan.name, wire.batched(call[0]), call[1])
            return {key: array[0] for key, array in outputs.items()}

        verification = await check(written, opened, watch)
        alone = [await one(call) for call in calls]
        together = await asyncio.gather(*map(one, calls))
    return verification, alone, list(together)


@pytest.mark.parametrize("name", [*LIGHT, *GENERIC])
def test_ensemble_answers_as_the_pipeline(name: str, tmp_path: Path) -> None:
    if absent := checkpoints.missing(name):
        pytest.skip(f"transformers cannot run {name} without {', '.join(absent)}")
    written = deploy_and_compare(name, tmp_path)
    assert written.ensemble is not None
    assert name not in LIGHT or not any("the pipeline's own steps" in note for note in written.ensemble.split.notes)


@pytest.mark.parametrize("name", ["audio-classification", "image-classification", "text-classification"])
def test_what_follows_the_network_may_run_in_python(name: str, tmp_path: Path) -> None:
    written = deploy_and_compare(name, tmp_path, postprocess="python")
    assert outputs_of_core(written) == ["logits"]


def test_what_follows_the_network_runs_in_python_if_its_export_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = run.export_best

    def refuse_probs(network: Network, *others: Any) -> Exported:
        if any(spec.name == "probs" for spec in network.outputs):
            raise CannotExport("core", (Rejection("onnxruntime", "wrong", "output 'probs' differs"),))
        return export(network, *others)

    monkeypatch.setattr(run, "export_best", refuse_probs)
    written = deploy_and_compare("image-classification", tmp_path)
    assert outputs_of_core(written) == ["logits"]


def test_pipeline_that_asks_its_network_about_each_label_keeps_its_own_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Grounding DINO does, which reads the text with the image."""
    monkeypatch.setitem(splitters._SPLITTERS, "zero-shot-object-detection", ("generic:whole_pipeline",))
    written = deploy_and_compare("zero-shot-object-detection", tmp_path)
    assert written.models[1:] == [f"{written.plan.name}_{part}" for part in ("preprocess", "core", "postprocess")]


def test_encoder_of_a_model_that_generates_runs_on_an_engine(tmp_path: Path) -> None:
    written = deploy_and_compare("automatic-speech-recognition.whisper", tmp_path)
    assert written.models[1:] == [f"{written.plan.name}_{part}" for part in ("preprocess", "encoder", "generate")]


def test_model_that_generates_keeps_its_own_encoder_if_no_engine_serves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(network: Network, *others: Any) -> Exported:
        raise CannotExport("encoder", (Rejection("onnxruntime", "wrong", "output differs"),))

    monkeypatch.setattr(run, "export_best", refuse)
    written = deploy_and_compare("automatic-speech-recognition.whisper", tmp_path)
    assert written.models[1:] == [f"{written.plan.name}_{part}" for part in ("preprocess", "generate")]
    assert written.ensemble is not None
    assert written.ensemble.split.notes == ("the stage 'encoder' cannot be exported: onnxruntime: output differs",)


def outputs_of_core(written: Written) -> list[str]:
    assert written.ensemble is not None
    return [spec.name for spec in written.ensemble.split.part("core").outputs]


def deploy_and_compare(name: str, tmp_path: Path, **changes: Any) -> Written:
    """Deploy an ensemble, have it verify itself, and compare its answers with the library's."""
    ordered = order(name, tmp_path, **changes)
    planned = make(ordered, say, watch)
    with Family(ordered.repository, planned.plan.name, force=False) as family:
        written = build(ordered, planned, family, say, watch)
        assert (written.approach, written.reason) == ("ensemble", "")
        verification, alone, together = asyncio.run(answers(written, name))

    assert verification.passed, table(verification)
    assert {row.stage for row in verification.rows} > {""}
    expected = checkpoints.reference(name, tmp_path / "checkpoints" / name)
    pixels = PIXELS.get(name, 0.0)
    for answered in (alone, together):
        assert [differences(name, *pair, pixels) for pair in zip(expected, answered, strict=True)] == [[]] * len(
            answered
        )
    return written


REQUESTS: dict[str, tuple[dict[str, Any], ...]] = {
    "sentence-similarity": ({"normalize": False}, {"normalize": True}, {"prompt": "query: "}),
    "text-classification": ({"top_k": 2}, {"function_to_apply": "sigmoid"}, {"truncation": True, "max_length": 6}),
    "zero-shot-image-classification": ({"hypothesis_template": "a photo of {}."},),
    "document-question-answering": ({"max_seq_len": 16, "doc_stride": 4, "top_k": 4},),
    "token-classification": ({"aggregation_strategy": "simple"}, {"stride": 2, "ignore_labels": "[]"}),
    "automatic-speech-recognition": (
        {"return_timestamps": "word"},
        {"chunk_length_s": "0.3"},
        {"chunk_length_s": "0.4", "stride_length_s": "0.05", "return_timestamps": "char"},
        {"chunk_length_s": "0.3", "stride_length_s": "[0.1, 0.05]", "return_timestamps": "word"},
    ),
    "object-detection.detr": ({"threshold": "0.05"},),
    "fill-mask": ({"top_k": 2}, {"targets": "red,blue,harbour"}),
    "feature-extraction.nystromformer": ({"truncation": True},),
    "text-to-audio": ({"seed": -7},),
    "text-to-audio.speecht5": ({"generate_kwargs": json.dumps({"maxlenratio": 3.5, "threshold": 0.9})},),
    "zero-shot-object-detection.owlv2": ({"threshold": "0.3", "top_k": 3},),
    "mask-generation": (
        {"crops_n_layers": 1, "points_per_crop": 4},
        {"pred_iou_thresh": "0.5", "stability_score_thresh": "0.3", "mask_threshold": "1.5", "crops_nms_thresh": "0.9"},
    ),
}
"""Request parameters that change what the core computes, and some that do not."""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of ensembles; what the checkpoints become as one model each lies beside it, in `pipelines`."""
    directory = tmp_path_factory.mktemp("both")
    for name in REQUESTS:
        assert write(order(name, directory), say, watch).approach == "ensemble"
        write(
            msgspec.structs.replace(order(name, directory, approach="pipeline"), repository=directory / "pipelines"),
            say,
            watch,
        )
    return directory / "models"


@pytest.fixture(scope="module")
def server(deployed: Path) -> Iterator[ServerProcess]:
    with serving(deployed, limit_s=240) as process:
        yield process
        assert process.stop() == 0


@pytest.fixture(scope="module")
def pipelines(deployed: Path) -> Iterator[dict[str, InProcessModel]]:
    """The same checkpoints, each deployed as one model. They run in this process, without a start for each."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(loaded(deployed.parent / "pipelines" / name)) for name in REQUESTS}


def rows_of(pipeline: InProcessModel, inputs: wire.Inputs, parameters: dict[str, Any]) -> dict[str, Any]:
    return unpacked(pipeline.execute([(inputs, parameters)])[0])


@pytest.mark.parametrize("name", REQUESTS)
def test_client_cannot_tell_the_approaches_apart(
    name: str, server: ServerProcess, pipelines: dict[str, InProcessModel]
) -> None:
    sent = [wire.CALLS[checkpoints.ARCHITECTURES[name].task](sample) for sample in checkpoints.sample_inputs(name)]
    calls = [(inputs, own | parameters) for inputs, own in sent for parameters in ({}, *REQUESTS[name])]

    with ThreadPoolExecutor(8) as pool:
        for call, ensemble in zip(calls, pool.map(lambda call: ask(server, name, call), calls), strict=True):
            pipeline = rows_of(pipelines[name], wire.batched(call[0]), call[1])
            assert ensemble.keys() == pipeline.keys()
            for key in ensemble:
                got, want = wire.readable(ensemble[key]), wire.readable(pipeline[key][0])
                if key == "json":
                    got, want = wire.from_json(str(got[0])), wire.from_json(str(want[0]))
                assert not checkpoints.compare.mismatches(want, got, path=key)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("object-detection.detr", {"threshold": "0.05"}),
        ("automatic-speech-recognition", {"return_timestamps": "char"}),
        ("automatic-speech-recognition", {"chunk_length_s": "0.3", "return_timestamps": "word"}),
        ("fill-mask", {"top_k": 2}),
        ("mask-generation", {"points_per_crop": 4, "crops_n_layers": 1}),
        ("text-to-audio.speecht5", {"seed": 5}),
        ("feature-extraction.nystromformer", {}),  # a network that is never given padding
    ],
)
def test_rows_of_one_request_may_be_unequal(
    name: str, parameters: dict[str, Any], server: ServerProcess, pipelines: dict[str, InProcessModel]
) -> None:
    """Images and sounds of several sizes, texts of several lengths: what approach 1 answers, for each row."""
    samples = [
        wire.CALLS[checkpoints.ARCHITECTURES[name].task](sample)[0] for sample in checkpoints.sample_inputs(name)
    ]
    samples += samples[:1]
    rows = {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    ensemble, pipeline = ask_rows(server, name, (rows, parameters)), rows_of(pipelines[name], rows, parameters)

    assert ensemble.keys() == pipeline.keys()
    for key, array in ensemble.items():
        for row, (got, want) in enumerate(zip(array, pipeline[key], strict=True)):
            pair = [wire.readable(want), wire.readable(got)]
            if key == "json":
                pair = [wire.from_json(str(each[0])) for each in pair]
            assert not checkpoints.compare.mismatches(*pair, path=f"{key}[{row}]")


def test_labels_that_only_pad_a_request_count_for_nothing(server: ServerProcess) -> None:
    name = "zero-shot-image-classification"
    (inputs, _), *_ = [wire.CALLS[name](sample) for sample in checkpoints.sample_inputs(name)]
    padded = {**inputs, "text": np.concatenate([inputs["text"], wire.texts("", "")])}
    short, long = ask(server, name, (inputs, {})), ask(server, name, (padded, {}))

    labels = len(inputs["text"])
    np.testing.assert_allclose(long["probs"][:labels], short["probs"], atol=1e-5)
    np.testing.assert_allclose(long["logits_per_image"][:labels], short["logits_per_image"], atol=1e-4)
    assert not long["probs"][labels:].any()
    assert not long["logits_per_image"][labels:].any()


def test_features_of_labels_that_were_seen_come_from_the_cache(server: ServerProcess) -> None:
    name = "zero-shot-image-classification"
    calls = [wire.CALLS[name](sample)[0] for sample in checkpoints.sample_inputs(name)]
    pictures = {bytes(call["image"].reshape(-1)[0]): call["image"] for call in calls}
    labels = wire.texts("a label", "of nobody", "else")
    before = [counts(server, f"{name}_{tower}_encoder") for tower in ("text", "image")]
    answered = [ask(server, name, ({"image": image, "text": labels}, {})) for image in pictures.values()]
    text, image = (
        {key: value - old[key] for key, value in counts(server, f"{name}_{tower}_encoder").items()}
        for tower, old in zip(("text", "image"), before, strict=True)
    )
    assert len(answered) > 1
    assert text == {"executions": 1, "hits": len(answered) - 1}
    assert image == {"executions": len(answered), "hits": 0}


def counts(server: ServerProcess, model: str) -> dict[str, int]:
    with triton.InferenceServerClient(server.http_url) as client:
        (found,) = client.get_inference_statistics(model)["model_stats"]
    return {"executions": found["execution_count"], "hits": found["inference_stats"]["cache_hit"]["count"]}


def test_processes_around_the_network_are_small(server: ServerProcess) -> None:
    """Of light parts; those that keep the pipeline's own steps import transformers."""
    light = {f"{name}_{part}" for name in LIGHT for part in ("preprocess", "image_preprocess", "text_preprocess")}
    sizes = {}
    for child in psutil.Process(server.process.pid).children(recursive=True):
        models = {Path(word).parent.name for word in child.cmdline()} & light
        sizes |= dict.fromkeys(models, child.memory_info().rss)
    assert {f"{each}_preprocess" for each in ("sentence-similarity", "object-detection.detr")} < sizes.keys()
    assert max(sizes.values()) <= 150 * 1024 * 1024, sizes


def test_error_of_a_request_names_the_step_and_fails_alone(server: ServerProcess) -> None:
    name = "zero-shot-image-classification"
    (inputs, _), *_ = [wire.CALLS[name](sample) for sample in checkpoints.sample_inputs(name)]
    broken = {**inputs, "image": wire.texts("no picture")}
    with ThreadPoolExecutor(2) as pool:
        failed = pool.submit(ask, server, name, (broken, {}))
        answered = pool.submit(ask, server, name, (inputs, {}))
        with pytest.raises(Exception, match=f"step '{name}_image_preprocess': cannot decode the image"):
            failed.result()
        assert answered.result()["probs"].sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("speaker", "told"),
    [(None, r"missing required input\(s\) \['speaker_embeddings'\]"), (9, r"speaker_embeddings.*\[1,9\]")],
)
def test_voice_is_refused_without_the_vector_of_its_speaker(
    speaker: int | None, told: str, server: ServerProcess
) -> None:
    name = "text-to-audio.speecht5"
    (inputs, _), *_ = [wire.CALLS["text-to-audio"](sample) for sample in checkpoints.sample_inputs(name)]
    broken = {"text": inputs["text"]} | ({} if speaker is None else {"speaker_embeddings": np.ones(9, np.float32)})
    with pytest.raises(Exception, match=told):
        ask(server, name, (broken, {}))
    tensors = []
    for key, array in wire.batched(broken).items():
        tensors.append(triton.InferInput(key, array.shape, "BYTES" if key == "text" else "FP32"))
        tensors[-1].set_data_from_numpy(array)
    with triton.InferenceServerClient(server.http_url) as client, pytest.raises(Exception, match=told) as caught:
        client.infer(name, tensors)
    assert caught.value.status() == "400"
    with pytest.raises(Exception, match=r"the text has 20\d tokens, the model takes at most 120: send a shorter text"):
        ask(server, name, ({**inputs, "text": wire.texts("a" * 200)}, {}))
    assert ask(server, name, (inputs, {"seed": 1}))["audio"].size


@functools.cache
def examples() -> Path:
    return Path(__file__).parents[2] / "examples" / "shapes-clip"


def test_trained_clip_keeps_its_meaning_in_int8(tmp_path: Path) -> None:
    export = ExportOptions(backend="onnxruntime", quantize="int8")
    ordered = Order(str(examples()), tmp_path, name="shapes", approach="ensemble", export=export)
    planned = make(ordered, say, watch)
    with Family(tmp_path, "shapes", force=False) as family:
        written = build(ordered, planned, family, say, watch)
        assert written.ensemble is not None
        assert {each.dtype for each in written.ensemble.exported.values()} >= {"int8"}
        verification = asyncio.run(check(written, loaded_models, watch))
    assert verification.passed, table(verification)
    assert "reported" in table(verification)


def test_model_that_fails_its_checks_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ordered = order("sentence-similarity", tmp_path)
    planned = make(ordered, say, watch)
    with (
        pytest.raises(ConchError, match="text is out of reach"),
        Family(ordered.repository, planned.plan.name, force=False) as family,
    ):
        build(ordered, planned, family, say, watch)
        raise ConchError("the text is out of reach")
    assert list(ordered.repository.iterdir()) == []
