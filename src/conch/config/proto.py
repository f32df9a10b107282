"""The generated messages of model_config.proto, from the `tritonclient` package.

protobuf builds their classes at run time, so no type checker knows them; the names below say which one is meant.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from tritonclient.grpc import model_config_pb2

#: `tritonclient.grpc.model_config_pb2`: the classes, by their names in the .proto file.
pb: Any = model_config_pb2

#: An `inference.ModelConfig`.
ModelConfigMessage: TypeAlias = Any

#: Any message that a ModelConfig holds.
ConfigPart: TypeAlias = Any

#: A protobuf `FieldDescriptor` and `Descriptor`, whose stubs and run-time classes disagree.
Field: TypeAlias = Any
MessageType: TypeAlias = Any
