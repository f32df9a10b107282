"""URLs of object stores in Triton's spellings, as what fsspec needs to open them. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from conch.errors import InvalidArgumentError
from conch.repositories.credentials import Credentials

_S3_ENDPOINT = re.compile(r"(?P<scheme>https?://)?(?P<host>[0-9A-Za-z.-]+)(?P<port>:[0-9]+)?/(?P<path>.*)")
_AZURE_HOST = ".blob.core.windows.net"


class Address(msgspec.Struct, frozen=True):
    """Where an object store is and what lies under it is called there.

    Attributes:
        protocol: fsspec's name of the kind of store.
        root: bucket and path, without slashes around.
        options: what the file system is made with; may hold secrets.
        package: the Python package that knows the store; "" for one that comes with fsspec.
    """

    protocol: str
    root: str
    options: Mapping[str, Any] = {}
    package: str = ""


def parse_address(url: str, credentials: Credentials | None, environment: Mapping[str, str]) -> Address:
    """The address of `s3://`, `gs://`, `as://`, or any other URL that fsspec knows.

    Raises:
        InvalidArgumentError: the URL lacks something; the text says what.
    """
    scheme, _, rest = url.partition("://")
    credential = credentials.of(scheme, url) if credentials is not None else None
    if credentials is not None and credential is None and scheme in ("s3", "gs", "as"):
        raise InvalidArgumentError(f"model repository '{url}': no credential of TRITON_CLOUD_CREDENTIAL_PATH fits it")
    if scheme == "s3":
        return _s3(url, rest, credential)
    if scheme == "gs":
        options = {"token": credential} if credential else {}
        return Address("gs", _root(url, rest), options, "gcsfs")
    if scheme == "as":
        return _azure(url, rest, credential, environment)
    return Address(scheme, _root(url, rest))


def _s3(url: str, rest: str, credential: Mapping[str, str] | None) -> Address:
    """`s3://bucket/path`, or `s3://[http[s]://]host:port/bucket/path` for a store that is not Amazon's."""
    options: dict[str, Any] = {}
    client: dict[str, str] = {}
    found = _S3_ENDPOINT.fullmatch(rest)
    if found is not None and (found["scheme"] or found["port"]):
        endpoint = f"{found['scheme'] or 'http://'}{found['host']}{found['port'] or ''}"
        options |= {"endpoint_url": endpoint, "config_kwargs": {"s3": {"addressing_style": "path"}}}
        rest = found["path"]
    given = credential or {}
    if given.get("key_id") and given.get("secret_key"):
        options |= {"key": given["key_id"], "secret": given["secret_key"]}
        if given.get("session_token"):
            options["token"] = given["session_token"]
    elif given.get("profile"):
        options["profile"] = given["profile"]
    if given.get("region"):
        client["region_name"] = given["region"]
    if client:
        options["client_kwargs"] = client
    return Address("s3", _root(url, rest), options, "s3fs")


def _azure(url: str, rest: str, credential: Mapping[str, str] | None, environment: Mapping[str, str]) -> Address:
    """`as://account/container/path`; the account may be written as its host."""
    host, _, path = rest.partition("/")
    if not host or not path.strip("/"):
        raise InvalidArgumentError(f"model repository '{url}': expected as://<account>/<container>/<path>")
    if credential is None:
        credential = {
            "account_str": environment.get("AZURE_STORAGE_ACCOUNT", ""),
            "account_key": environment.get("AZURE_STORAGE_KEY", ""),
            "auth_type": environment.get("AZURE_STORAGE_AUTH_TYPE", ""),
            "client_id": environment.get("AZURE_STORAGE_CLIENT_ID", ""),
        }
    options: dict[str, Any] = {"account_name": credential.get("account_str") or host.removesuffix(_AZURE_HOST)}
    kind = credential.get("auth_type", "")
    if kind not in ("", "key", "default", "managed_identity"):
        raise InvalidArgumentError(
            f"model repository '{url}': auth_type must be key, managed_identity or default, got '{kind}'"
        )
    if kind == "managed_identity":
        options["managed_identity"] = credential.get("client_id", "")
    elif kind == "default":
        options["anon"] = False
    elif credential.get("account_key"):
        options["account_key"] = credential["account_key"]
    return Address("abfs", _root(url, path), options, "adlfs")


def _root(url: str, path: str) -> str:
    parts = [part for part in path.split("/") if part]
    if not parts:
        raise InvalidArgumentError(f"model repository '{url}' names no bucket")
    if ".." in parts or "." in parts:
        raise InvalidArgumentError(f"model repository '{url}': '.' and '..' cannot be parts of its path")
    return "/".join(parts)
