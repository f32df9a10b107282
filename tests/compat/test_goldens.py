"""The golden files belong to the written scenarios."""

from __future__ import annotations

import re

import msgspec
import pytest

from .compare import differences
from .differences import ON_PURPOSE
from .messages import GOLDEN_DIRECTORY, Group, GrpcAnswer, HttpAnswer, HttpRequest, Scenario, load_golden
from .normalise import comparable, normalise
from .scenarios import GROUPS


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_golden_file_was_recorded_from_the_written_scenarios(group: Group) -> None:
    golden = load_golden(GOLDEN_DIRECTORY / f"{group.name}.json")
    # Through JSON and back, as the recorded scenarios went.
    written = msgspec.json.decode(msgspec.json.encode(group.scenarios), type=list[Scenario])
    assert [exchange.scenario for exchange in golden.exchanges] == written
    assert golden.server == group.server


def test_every_golden_file_has_a_group() -> None:
    assert {path.stem for path in GOLDEN_DIRECTORY.glob("*.json")} == {group.name for group in GROUPS}


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_scenario_names_are_unique_in_their_group(group: Group) -> None:
    names = [scenario.name for scenario in group.scenarios]
    assert len(set(names)) == len(names)


def test_every_difference_on_purpose_names_a_scenario() -> None:
    known = {(group.name, scenario.name) for group in GROUPS for scenario in group.scenarios}
    assert ON_PURPOSE.keys() <= known


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_golden_file_names_no_path_of_the_machine_it_was_recorded_on(group: Group) -> None:
    text = (GOLDEN_DIRECTORY / f"{group.name}.json").read_text()
    assert re.findall(r"/(?:tmp|root|home|work|Users|private)/[^\"]*", text) == []


def test_normalisation_takes_out_paths_times_and_the_frames_of_importlib() -> None:
    answer = HttpAnswer(
        json={
            "error": "At:\n  /r/m/1/model.py(3): execute\n  <frozen importlib._bootstrap>(241): _load\n;",
            "queue": {"count": 2, "ns": 1234},
            "fail": {"count": 0, "ns": 0},
        }
    )
    assert normalise(answer, "/r") == HttpAnswer(
        json={
            "error": "At:\n  <REPOSITORY>/m/1/model.py(3): execute\n;",
            "queue": {"count": 2, "ns": "<SOME>"},
            "fail": {"count": 0, "ns": 0},
        }
    )


def test_comparison_tells_status_header_value_type_and_order() -> None:
    scenario = Scenario("any", HttpRequest("GET", "/"))
    golden = HttpAnswer(200, {"content-type": "application/json"}, json={"a": 1, "b": [1.0]})
    answer = HttpAnswer(404, {"content-type": "text/plain"}, json={"b": [1], "a": 1})
    assert differences(scenario, golden, answer) == [
        "status: Triton 200, got 404",
        "headers.content-type: Triton 'application/json', got 'text/plain'",
        "body: keys in the order ['b', 'a'], Triton's is ['a', 'b']",
        "body.b[0]: Triton 1.0, got 1",
    ]


def test_comparison_tells_missing_and_unexpected_parts() -> None:
    scenario = Scenario("any", HttpRequest("GET", "/"))
    golden = HttpAnswer(200, json={"a": [1, 2]}, lines=["x 1"])
    answer = HttpAnswer(200, json={"a": [1], "c": None}, lines=["x 2"])
    assert differences(scenario, golden, answer) == [
        "body: 'c' unexpected (None)",
        "body.a: Triton has 2 elements, got 1: [1, 2] [1]",
        "line missing: x 1",
        "line unexpected: x 2",
    ]


def test_comparison_tells_which_models_are_missing_from_an_index() -> None:
    scenario = Scenario("any", HttpRequest("GET", "/"))
    golden = HttpAnswer(200, json=[{"name": "a", "version": "1"}, {"name": "a", "version": "2"}])
    answer = HttpAnswer(200, json=[{"name": "a", "version": "2", "state": "READY"}])
    assert differences(scenario, golden, answer) == [
        "body: 'a/1' missing (Triton {'name': 'a', 'version': '1'})",
        "body.a/2: 'state' unexpected ('READY')",
    ]


def test_tracebacks_and_reasons_of_polling_are_not_compared() -> None:
    error = "version 1: Internal: ValueError: no\n\nAt:\n  <REPOSITORY>/m/1/model.py(3): f\n  x.py(1): g\n;\n"
    poll = "failed to load 'm', failed to poll from model repository"
    assert comparable(HttpAnswer(400, json={"error": error})) == HttpAnswer(
        400, json={"error": "version 1: Internal: ValueError: no;"}
    )
    assert comparable(GrpcAnswer("INTERNAL", f"{poll}: field 'x' is none")) == GrpcAnswer("INTERNAL", poll)
    data = HttpAnswer(200, json={"outputs": [{"data": ["a\n"]}]})
    assert comparable(data) == data


def test_any_answer_is_right_where_triton_broke_down() -> None:
    scenario = Scenario("any", HttpRequest("GET", "/"))
    golden = HttpAnswer(failure="RemoteDisconnected")
    assert differences(scenario, golden, HttpAnswer(400, json={"error": "no"})) == []
    assert differences(scenario, golden, HttpAnswer(failure="TimeoutError")) == ["no answer: TimeoutError"]
