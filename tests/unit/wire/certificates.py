"""Certificates made for the occasion, with the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="makes certificates with the openssl command"
)


class Pair(NamedTuple):
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


def make_pair(directory: Path, name: str, issuer: Pair | None) -> Pair:
    """A certificate for localhost, signed by `issuer` or by itself."""
    pair = Pair(directory / f"{name}.crt", directory / f"{name}.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-keyout", str(pair.key), "-out", str(pair.certificate)]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    if issuer is not None:
        command += ["-CA", str(issuer.certificate), "-CAkey", str(issuer.key), "-addext", "basicConstraints=CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)
    return pair
