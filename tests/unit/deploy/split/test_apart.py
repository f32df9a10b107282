"""Around a network that sees padding, the postprocess asks for the rows that have no place in their request's batch."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from conch.deploy.split.apart import ROWS_APART, refuses, with_rows_apart
from conch.deploy.split.network import Network
from conch.deploy.split.parts import CorePart, PythonPart, Split
from conch.deploy.tasks import TensorSpec
from conch.tensor import DataType

PIXELS = TensorSpec("pixel_values", DataType.FP32, (3, -1, -1), "")
LOGITS = TensorSpec("logits", DataType.FP32, (7,), "what the model said")
LABEL = TensorSpec("label", DataType.BYTES, (1,), "")
IMAGE = TensorSpec("image", DataType.BYTES, (1,), "")
UNPADDED = (("unpadded", "pixel_values", ""),)


def python_part(suffix: str, template: str, inputs: Any, outputs: Any, settings: Any = ()) -> PythonPart:
    return PythonPart(
        suffix=suffix, stage=suffix, summary="", template=template, inputs=inputs, outputs=outputs, settings=settings
    )


def whole(postprocess: str = "classify.py", settings: Any = UNPADDED) -> Split:
    core = CorePart(
        suffix="core",
        stage="core",
        summary="",
        inputs=(PIXELS,),
        outputs=(LOGITS,),
        network=Network(None, (PIXELS,), (LOGITS,), {}, ()),
    )
    before = python_part("preprocess", "process_image.py", (IMAGE,), (PIXELS,), settings)
    return Split((before, core, python_part("postprocess", postprocess, (LOGITS,), (LABEL,))))


def test_output_of_the_network_comes_from_the_postprocess_which_knows_all_rows() -> None:
    before, core, after = with_rows_apart("eye", (LOGITS, LABEL), whole()).parts
    assert ROWS_APART in before.outputs
    assert core.output_map == after.input_map == {"logits": "network_logits"}
    assert after.inputs == (LOGITS, ROWS_APART)
    assert after.outputs == (LOGITS, LABEL)
    assert isinstance(after, PythonPart)
    assert {key: value for key, value, _ in after.settings} == {
        "network": "eye_core", "network_inputs": "pixel_values", "network_outputs": "logits",
    }  # fmt: skip
    assert not any(map(refuses, (before, core, after)))


def test_output_that_the_network_keeps_to_itself_is_called_as_before() -> None:
    _, core, after = with_rows_apart("eye", (LABEL,), whole()).parts
    assert not core.output_map
    assert after.outputs == (LABEL,)


def test_network_that_never_sees_padding_is_left_as_it_is() -> None:
    split = whole(settings=())
    assert with_rows_apart("eye", (LOGITS, LABEL), split) == split


@pytest.mark.parametrize("postprocess", ["rank_labels.py", "classify_tokens.py"])
def test_part_behind_the_network_brings_rows_back_where_the_postprocess_cannot(postprocess: str) -> None:
    split = whole(postprocess)
    before, core, rows, after = with_rows_apart("eye", (LABEL,), split).parts
    assert ROWS_APART in before.outputs
    assert (rows.suffix, core.output_map, rows.input_map) == (
        "core_rows", {"logits": "network_logits"}, {"logits": "network_logits"},
    )  # fmt: skip
    assert rows.inputs == (LOGITS, ROWS_APART)
    assert rows.outputs == after.inputs == (LOGITS,)
    assert after == split.parts[-1]
    assert not any(map(refuses, (before, core, rows, after)))


def test_part_behind_the_network_answers_the_client_itself() -> None:
    before, core, _ = whole(settings=(*UNPADDED, ("task", "seeing", ""), ("pad_to", "0", ""))).parts
    *_, rows = with_rows_apart("eye", (LOGITS,), Split((before, core))).parts
    assert isinstance(rows, PythonPart)
    assert (rows.template, rows.outputs, dict(rows.output_map)) == ("join_rows.py", (LOGITS,), {})
    assert {key: value for key, value, _ in rows.settings} == {
        "task": "seeing", "network": "eye_core", "network_inputs": "pixel_values", "network_outputs": "logits",
    }  # fmt: skip


def test_input_of_the_network_that_clients_see_is_that_of_each_row() -> None:
    """A mask of the request's batch belongs to the rows that stand for others."""
    before, core, _ = whole().parts
    answered = (LOGITS, replace(PIXELS, doc="the pixels that the network saw"))
    before, core, rows = with_rows_apart("eye", answered, Split((before, core))).parts
    assert before.output_map == core.input_map == {"pixel_values": "network_pixel_values"}
    assert rows.inputs == (LOGITS, PIXELS, ROWS_APART)
    assert rows.outputs == (LOGITS, PIXELS)
    assert rows.input_map == {"logits": "network_logits", "pixel_values": "network_pixel_values"}


def test_each_network_of_several_has_its_own_rows() -> None:
    before, core, _ = whole().parts
    vector = TensorSpec("vector", DataType.FP32, (4,), "")
    tower = replace(core, suffix="image_encoder", outputs=(vector,))
    similarity = replace(core, suffix="similarity", inputs=(vector,))
    parts = with_rows_apart("eye", (LOGITS,), Split((before, tower, similarity))).parts
    assert [part.suffix for part in parts] == ["preprocess", "image_encoder", "image_encoder_rows", "similarity"]
    assert parts[-1] == similarity
    assert parts[1].output_map == {"vector": "network_vector"}


def test_part_that_makes_another_tensor_of_the_network_is_not_the_one() -> None:
    before, core, after = whole().parts
    size = TensorSpec("image_size", DataType.INT64, (2,), "")
    split = Split((before, replace(core, inputs=(PIXELS, size)), after))
    assert with_rows_apart("eye", (LOGITS, LABEL), split) == split
