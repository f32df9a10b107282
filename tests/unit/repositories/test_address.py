"""Triton's spellings of object stores, as what fsspec needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from conch.errors import InvalidArgumentError
from conch.repositories.address import Address, parse_address
from conch.repositories.credentials import Credentials

PATH_STYLE = {"s3": {"addressing_style": "path"}}


def parse(url: str, document: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Address:
    return parse_address(url, None if document is None else Credentials(document), environment or {})


@pytest.mark.parametrize(
    ("url", "root", "options"),
    [
        ("s3://bucket/path/to/models", "bucket/path/to/models", {}),
        ("s3://bucket//path/", "bucket/path", {}),
        ("s3://bucket", "bucket", {}),
        (
            "s3://127.0.0.1:9000/bucket/path",
            "bucket/path",
            {"endpoint_url": "http://127.0.0.1:9000", "config_kwargs": PATH_STYLE},
        ),
        (
            "s3://https://minio.example.com:9000/bucket/path",
            "bucket/path",
            {"endpoint_url": "https://minio.example.com:9000", "config_kwargs": PATH_STYLE},
        ),
        (
            "s3://https://store.example.com/bucket",
            "bucket",
            {"endpoint_url": "https://store.example.com", "config_kwargs": PATH_STYLE},
        ),
    ],
)
def test_s3_urls_name_a_bucket_or_a_store_and_a_bucket(url: str, root: str, options: Mapping[str, Any]) -> None:
    assert parse(url) == Address("s3", root, options, "s3fs")


def test_an_s3_credential_is_keys_before_a_profile() -> None:
    keys = {"key_id": "k", "secret_key": "s", "session_token": "t", "region": "eu-west-1", "profile": "p"}
    options = parse("s3://bucket/x", {"s3": {"": keys}}).options
    assert options == {"key": "k", "secret": "s", "token": "t", "client_kwargs": {"region_name": "eu-west-1"}}
    named = {"key_id": "", "secret_key": "", "session_token": "", "region": "", "profile": "p"}
    assert parse("s3://bucket/x", {"s3": {"": named}}).options == {"profile": "p"}


def test_the_longest_start_that_fits_names_the_credential() -> None:
    document = {"gs": {"": "all.json", "gs://one": "one.json", "gs://one/deep": "deep.json"}}
    tokens = {url: parse(url, document).options for url in ("gs://other/x", "gs://one/x", "gs://one/deeper")}
    assert tokens == {
        "gs://other/x": {"token": "all.json"},
        "gs://one/x": {"token": "one.json"},
        "gs://one/deeper": {"token": "deep.json"},
    }


def test_google_s_own_credentials_count_where_no_file_names_any() -> None:
    assert parse("gs://bucket/models") == Address("gs", "bucket/models", {}, "gcsfs")


def test_an_azure_account_may_be_written_as_its_host() -> None:
    for host in ("account", "account.blob.core.windows.net"):
        address = parse(f"as://{host}/container/a/b", environment={"AZURE_STORAGE_KEY": "secret"})
        options = {"account_name": "account", "account_key": "secret"}
        assert address == Address("abfs", "container/a/b", options, "adlfs")


def test_azure_credentials_may_be_identities() -> None:
    environment = {"AZURE_STORAGE_ACCOUNT": "mine", "AZURE_STORAGE_AUTH_TYPE": "managed_identity"}
    assert parse("as://a/c/p", environment=environment).options == {"account_name": "mine", "managed_identity": ""}
    document = {"as": {"": {"account_str": "", "auth_type": "default"}}}
    assert parse("as://a/c/p", document).options == {"account_name": "a", "anon": False}
    with pytest.raises(InvalidArgumentError, match="auth_type must be key, managed_identity or default, got 'magic'"):
        parse("as://a/c/p", {"as": {"": {"auth_type": "magic"}}})


def test_other_kinds_of_stores_are_fsspec_s() -> None:
    assert parse("memory://models/a") == Address("memory", "models/a")


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s3://", "names no bucket"),
        ("s3://http://host:1/", "names no bucket"),
        ("gs:///", "names no bucket"),
        ("as://account", "expected as://<account>/<container>/<path>"),
        ("s3://bucket/../other", "cannot be parts of its path"),
    ],
)
def test_urls_that_lack_something_say_what(url: str, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        parse(url)


def test_a_file_of_credentials_without_a_fitting_one_is_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match="no credential of TRITON_CLOUD_CREDENTIAL_PATH fits it"):
        parse("s3://other/x", {"s3": {"s3://bucket": {}}})
