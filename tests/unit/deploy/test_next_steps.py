"""What to type next names the model's real inputs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from conch.deploy.next_steps import curl_command, infer_command, serve_command
from conch.deploy.plan import CheckpointFacts, Choices, Plan, make_plan
from conch.deploy.tasks import TASKS, find_task
from conch.deploy.tasks.generation import STREAMED_TEXT_GENERATION


def plan(task: str, choices: Choices | None = None) -> Plan:
    return make_plan("model", find_task(task), "owner/name", CheckpointFacts(sizes={}), choices or Choices())


@pytest.mark.parametrize("task", TASKS)
def test_example_names_every_required_input_and_no_unknown_one(task: str) -> None:
    written = plan(task)
    words = shlex.split(infer_command(written))
    assert words[:3] == ["conch", "infer", "model"]
    named = {word.partition("=")[0] for word in words[4::2]}
    assert named >= {each.name for each in written.inputs if not each.optional}
    assert named
    assert named <= {each.name for each in written.inputs}


@pytest.mark.parametrize("task", ["text-classification", "zero-shot-classification", "table-question-answering"])
def test_curl_sends_json_with_shapes_that_fit(task: str) -> None:
    words = shlex.split(curl_command(plan(task)))
    assert words[:4] == ["curl", "-s", "localhost:8000/v2/models/model/infer", "-d"]
    for tensor in json.loads(words[4])["inputs"]:
        assert tensor["shape"] == [1, len(tensor["data"])]


def test_curl_sends_media_as_base64_from_its_standard_input() -> None:
    command = curl_command(plan("zero-shot-image-classification"))
    assert command.startswith("curl -s localhost:8000/v2/models/model/infer -d @- <<END\n")
    assert '"data": ["$(base64 -w0 photo.jpg)"]' in command


def test_there_is_no_curl_line_for_arrays_of_numbers() -> None:
    assert curl_command(plan("image-classification", Choices(image_input="pixels"))) == ""


def test_repository_with_a_space_is_quoted() -> None:
    assert serve_command(Path("my models")) == "conch serve --model-repository 'my models'"


def test_a_streaming_model_is_called_with_a_stream() -> None:
    written = make_plan(
        "model", STREAMED_TEXT_GENERATION, "owner/name", CheckpointFacts(sizes={}), Choices(stream=True)
    )
    words = shlex.split(infer_command(written))
    assert words[:4] == ["curl", "-sN", "localhost:8000/v2/models/model/generate_stream", "-d"]
    assert list(json.loads(words[4])) == ["text"]
    assert curl_command(written) == ""
