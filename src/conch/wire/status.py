"""Error codes as the numbers of the protocols; both tables are total over `Code`."""

from __future__ import annotations

from conch.errors import Code

#: The HTTP status Triton's endpoints answer with.
HTTP_STATUS: dict[Code, int] = {
    Code.UNKNOWN: 400,
    Code.INTERNAL: 500,
    Code.NOT_FOUND: 404,
    Code.INVALID_ARG: 400,
    Code.UNAVAILABLE: 503,
    Code.UNSUPPORTED: 501,
    Code.ALREADY_EXISTS: 400,
    Code.CANCELLED: 400,
}

#: The number of the gRPC status code (`grpc.StatusCode.X.value[0]`).
GRPC_STATUS: dict[Code, int] = {
    Code.UNKNOWN: 2,
    Code.INTERNAL: 13,
    Code.NOT_FOUND: 5,
    Code.INVALID_ARG: 3,
    Code.UNAVAILABLE: 14,
    Code.UNSUPPORTED: 12,
    Code.ALREADY_EXISTS: 6,
    Code.CANCELLED: 1,
}
