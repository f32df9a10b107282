"""A split becomes configurations that wire its parts, and nothing but what is read is made."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from conch.config.padding import read_padding
from conch.config.pbtxt import from_message, parse
from conch.deploy.ensemble import ensemble_files, render_ensemble, settle
from conch.deploy.export import Exported
from conch.deploy.plan import CheckpointFacts, Choices, Plan, make_plan
from conch.deploy.split.network import Network
from conch.deploy.split.parts import CorePart, PaddedAxis, PythonPart, Split
from conch.deploy.tasks import TensorSpec, find_task
from conch.tensor import DataType

TEXT = TensorSpec("text", DataType.BYTES, (1,), "the text")
IDS = TensorSpec("input_ids", DataType.INT64, (-1,), "token ids")
TYPES = TensorSpec("token_type_ids", DataType.INT64, (-1,), "which text")
MASK = TensorSpec("attention_mask", DataType.INT64, (-1,), "1 for a token")
STATES = TensorSpec("last_hidden_state", DataType.FP32, (-1, 4), "one vector a token")


def plan(choices: Choices | None = None) -> Plan:
    facts = CheckpointFacts(sizes={"hidden_size": (4,)})
    return make_plan("words", find_task("feature-extraction"), "owner/name", facts, choices or Choices())


def split() -> Split:
    network = Network(None, (IDS, TYPES, MASK), (STATES,), {}, ())
    padded = {"input_ids": (0, 7), "token_type_ids": (0, 0), "attention_mask": (0, 0)}
    core = CorePart(
        suffix="core",
        stage="core",
        summary="the network",
        inputs=network.inputs,
        outputs=network.outputs,
        network=network,
        padding=(PaddedAxis("sequence", padded, {"last_hidden_state": 0}),),
        cached=True,
    )
    preprocess = PythonPart(
        suffix="preprocess",
        stage="preprocess",
        summary="texts to tokens",
        inputs=(TEXT,),
        outputs=(IDS, TYPES, MASK),
        template="tokenize_text.py",
        libraries=("light_serving.py",),
        settings=(("task", "feature-extraction", "what the model does"),),
        contents={"tokenizer.json": b"{}"},
        checkpoint=(Path("config.json"),),
    )
    return Split((preprocess, core))


def exported(*dropped: str) -> Exported:
    inputs = tuple(spec for spec in (IDS, TYPES, MASK) if spec.name not in dropped)
    return Exported(
        "onnxruntime", "onnxruntime_onnx", ("model.onnx",), inputs, (STATES,), dropped, "float32", 17, (), {}, ()
    )


def parsed(text: str) -> pb.ModelConfig:
    return text_format.Parse(text, pb.ModelConfig())


def test_input_that_the_file_does_not_have_is_made_by_nobody() -> None:
    settled = settle(plan(), split(), {"core": exported("token_type_ids")})
    assert [spec.name for spec in settled.part("core").inputs] == ["input_ids", "attention_mask"]
    assert [spec.name for spec in settled.part("preprocess").outputs] == ["input_ids", "attention_mask"]
    core = settled.part("core")
    assert isinstance(core, CorePart)
    assert core.padding[0].inputs.keys() == {"input_ids", "attention_mask"}


def test_input_that_nobody_reads_is_still_an_output_of_the_task() -> None:
    settled = settle(plan(), split(), {"core": exported("attention_mask")})
    assert "attention_mask" in [spec.name for spec in settled.part("preprocess").outputs]


def test_rows_are_set_apart_with_the_inputs_that_the_file_has() -> None:
    preprocess, core = split().parts
    assert isinstance(preprocess, PythonPart)
    unpadded = ("unpadded", "input_ids", "outputs of one size")
    whole = Split(
        (
            msgspec.structs.replace(preprocess, settings=(unpadded,)),
            core,
            PythonPart(
                suffix="postprocess",
                stage="postprocess",
                summary="the pipeline's own postprocess",
                inputs=(STATES,),
                outputs=(),
                template="pipeline_postprocess.py",
            ),
        )
    )
    postprocess = settle(plan(), whole, {"core": exported("token_type_ids")}).part("postprocess")
    assert isinstance(postprocess, PythonPart)
    settings = {key: value for key, value, _ in postprocess.settings}
    assert settings["network_inputs"] == "input_ids attention_mask"
    assert settings["network"] == "words_core"


def test_ensemble_has_the_tensors_of_the_plan_and_a_step_for_each_part() -> None:
    config = parsed(render_ensemble(plan(), split(), ["a note"]))
    assert (config.name, config.platform, config.max_batch_size) == ("words", "ensemble", 32)
    assert [each.name for each in config.input] == ["text"]
    assert [each.name for each in config.output] == ["last_hidden_state", "attention_mask"]
    steps = config.ensemble_scheduling.step
    assert [step.model_name for step in steps] == ["words_preprocess", "words_core"]
    assert dict(steps[0].output_map) == {name: name for name in ("input_ids", "token_type_ids", "attention_mask")}
    assert config.parameters["task"].string_value == "feature-extraction"


def test_tensors_are_called_in_the_ensemble_what_the_maps_say() -> None:
    core = msgspec.structs.replace(
        split().part("core"), input_map={"input_ids": "tokens"}, output_map={"last_hidden_state": "states"}
    )
    config = parsed(render_ensemble(plan(), Split((core,))))
    assert config.ensemble_scheduling.step[0].input_map["input_ids"] == "tokens"
    assert config.ensemble_scheduling.step[0].output_map["last_hidden_state"] == "states"


def test_parts_are_written_with_what_they_need(tmp_path: Path) -> None:
    models = {each.name: each for each in ensemble_files(plan(), split(), {"core": exported()}, tmp_path)}
    assert list(models) == ["words_preprocess", "words_core", "words"]
    preprocess = parsed(models["words_preprocess"].config)
    assert (preprocess.backend, preprocess.instance_group[0].kind) == ("python", pb.ModelInstanceGroup.KIND_CPU)
    assert models["words_preprocess"].contents.keys() == {"model.py", "light_serving.py", "tokenizer.json"}
    assert models["words_preprocess"].copies == {"checkpoint/config.json": tmp_path / "config.json"}
    core = parsed(models["words_core"].config)
    assert (core.backend, core.platform, core.max_batch_size) == ("onnxruntime", "onnxruntime_onnx", 32)
    assert core.response_cache.enable
    assert core.HasField("dynamic_batching")


@pytest.mark.parametrize(("device", "kind"), [("auto", "KIND_AUTO"), ("cpu", "KIND_CPU"), ("cuda", "KIND_GPU")])
def test_device_and_instances_are_those_of_the_core(device: str, kind: str, tmp_path: Path) -> None:
    models = ensemble_files(plan(Choices(device=device, instances=3)), split(), {"core": exported()}, tmp_path)
    groups = [parsed(model.config).instance_group[0] for model in models[:2]]
    found = [(pb.ModelInstanceGroup.Kind.Name(group.kind), group.count) for group in groups]
    assert found == [("KIND_CPU", 1), (kind, 3)]


def test_padding_is_declared_as_the_server_reads_it(tmp_path: Path) -> None:
    (core,) = [
        model for model in ensemble_files(plan(), split(), {"core": exported()}, tmp_path) if model.name == "words_core"
    ]
    padding = read_padding(from_message(parse(core.config)))
    assert padding is not None
    assert padding.groups == ("sequence",)
    assert padding.inputs["input_ids"].fill == 7
    assert padding.outputs["last_hidden_state"][0].axis == 0


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_settings_of_an_engine_are_written_where_it_runs_the_network(backend: str) -> None:
    whole = split()
    core = msgspec.structs.replace(whole.part("core"), onnxruntime=(("enable_mem_pattern", "0", "plan no memory"),))
    changed = msgspec.structs.replace(whole, parts=(whole.parts[0], core))
    files = ensemble_files(plan(), changed, {"core": msgspec.structs.replace(exported(), backend=backend)}, Path())
    (config,) = (parsed(each.config) for each in files if each.name == "words_core")
    found = {key: value.string_value for key, value in config.parameters.items() if key != "conch.padding"}
    assert found == ({"enable_mem_pattern": "0"} if backend == "onnxruntime" else {})


def test_requests_are_not_merged_where_a_part_says_so() -> None:
    whole = split()
    alone = msgspec.structs.replace(
        whole, parts=(whole.parts[0], msgspec.structs.replace(whole.part("core"), merges=False))
    )
    for each, merged in ((whole, True), (alone, False)):
        files = ensemble_files(plan(), each, {"core": exported()}, Path())
        (config,) = (parsed(file.config) for file in files if file.name == "words_core")
        assert (config.HasField("dynamic_batching"), config.max_batch_size) == (merged, plan().max_batch_size)
