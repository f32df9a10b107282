"""Both tables know every code, and name real statuses."""

from __future__ import annotations

from http import HTTPStatus

import grpc
import pytest

from conch.errors import Code
from conch.wire.status import GRPC_STATUS, HTTP_STATUS


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_an_http_error_status(code: Code) -> None:
    assert HTTPStatus(HTTP_STATUS[code]).value >= 400


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_the_grpc_status_of_its_name(code: Code) -> None:
    names = {"INVALID_ARG": "INVALID_ARGUMENT", "UNSUPPORTED": "UNIMPLEMENTED"}
    assert GRPC_STATUS[code] == grpc.StatusCode[names.get(code.name, code.name)].value[0]
