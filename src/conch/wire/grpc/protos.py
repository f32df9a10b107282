"""The generated protobuf messages of the inference service, typed as far as they are: not at all."""

from __future__ import annotations

from typing import Any

from conch.config.proto import service_pb2

#: `tritonclient.grpc.service_pb2`; protobuf builds its classes at run time, so no type checker knows them.
pb: Any = service_pb2
