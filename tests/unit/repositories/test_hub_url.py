"""`hf://` URLs: what is deployed, and under which key it is kept."""

from __future__ import annotations

import pytest

from conch.errors import InvalidArgumentError
from conch.repositories.hub_url import HubModel, parse_hub_url

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("url", "source", "name", "options"),
    [
        ("hf://openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32", "clip-vit-base-patch32", {}),
        ("hf://gpt2", "gpt2", "gpt2", {}),
        ("hf://org/name@v1.0/", "org/name@v1.0", "name", {}),
        (
            "hf://org/name?task=image-classification&approach=ensemble&name=mine",
            "org/name",
            "mine",
            {"task": "image-classification", "approach": "ensemble"},
        ),
        ("hf:///data/my%20model", "/data/my%20model", "my-20model", {}),
        ("hf:///data/models/bert@home/", "/data/models/bert@home", "bert-home", {}),
        (
            "hf://org/name?allow-pickle=true&no-verify=false",
            "org/name",
            "name",
            {"allow-pickle": "true"},
        ),
    ],
)
def test_urls_name_a_checkpoint_and_how_to_deploy_it(url: str, source: str, name: str, options: dict[str, str]) -> None:
    assert parse_hub_url(url) == HubModel(source, name, options)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("hf://", "expected hf://<owner>/<name>"),
        ("hf://a/b/c", "expected hf://<owner>/<name>"),
        ("hf://org/name?speed=high", "there is no option 'speed'; options are task, name"),
        ("hf://org/name?allow-pickle=maybe", "allow-pickle expects true or false, got 'maybe'"),
        ("hf://org/name?name=../evil", "'../evil' cannot be the name of a model"),
    ],
)
def test_other_urls_say_what_was_expected(url: str, text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_hub_url(url)
    assert text in caught.value.message


def test_the_arguments_of_the_deploy_name_the_commit() -> None:
    model = parse_hub_url("hf://org/name@main?approach=ensemble&allow-pickle=true")
    assert model.arguments(COMMIT, "/there") == [
        f"org/name@{COMMIT}",
        "--name=name",
        "--model-repository=/there",
        "--approach=ensemble",
        "--allow-pickle",
    ]
    assert parse_hub_url("hf:///data/a@b").arguments("fingerprint", "/there")[0] == "/data/a@b"


def test_a_url_with_a_whole_commit_is_pinned() -> None:
    assert parse_hub_url(f"hf://org/name@{COMMIT}").pinned == COMMIT
    assert parse_hub_url("hf://org/name@main").pinned == ""
    assert parse_hub_url(f"hf:///data/name@{COMMIT}").pinned == ""


def test_the_key_depends_on_commit_and_options_and_name_but_not_on_how_the_revision_is_called() -> None:
    key = parse_hub_url("hf://org/name@main").key(COMMIT)
    assert key == parse_hub_url("hf://org/name").key(COMMIT)
    others = [
        parse_hub_url("hf://org/name").key(COMMIT[::-1]),
        parse_hub_url("hf://org/name?approach=ensemble").key(COMMIT),
        parse_hub_url("hf://org/name?name=other").key(COMMIT),
        parse_hub_url("hf://other/name").key(COMMIT),
    ]
    assert len({key, *others}) == 5
