"""The file that TRITON_CLOUD_CREDENTIAL_PATH names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conch.errors import InvalidArgumentError
from conch.repositories.credentials import VARIABLE, read_credentials


def test_without_the_variable_there_are_none() -> None:
    assert read_credentials({}) is None


def test_the_file_holds_credentials_by_scheme_and_start_of_the_url(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"gs": {"": "key.json"}, "s3": {"s3://b": {"key_id": "k", "secret_key": "s"}}}))
    credentials = read_credentials({VARIABLE: str(path)})
    assert credentials is not None
    assert credentials.of("gs", "gs://any") == "key.json"
    assert credentials.of("s3", "s3://b/models") == {"key_id": "k", "secret_key": "s"}
    assert credentials.of("s3", "s3://other") is None
    assert credentials.of("as", "as://a/c") is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot read '.*': No such file"),
        ("{", "cannot read '.*': it is not JSON"),
        ("[]", "must hold an object with the keys s3, gs and as"),
        ('{"s3": []}', "'s3' in '.*' must be an object: URL -> credential"),
        (
            '{"s3": {"s3://b": {"key_id": 7}}}',
            "the credential of 's3://b' under 's3' in '.*' must be an object of strings",
        ),
        ('{"gs": {"": {"secret": "x"}}}', "the credential of '' under 'gs' in '.*' must be the path of a key file"),
    ],
)
def test_a_file_of_another_form_is_refused_without_telling_secrets(
    tmp_path: Path, content: str | None, text: str
) -> None:
    path = tmp_path / "credentials.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidArgumentError, match=text) as caught:
        read_credentials({VARIABLE: str(path)})
    assert "secret" not in caught.value.message
