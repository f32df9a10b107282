"""The generated messages of model_config.proto and grpc_service.proto, from the `tritonclient` package.

protobuf builds their classes at run time, so no type checker knows them; the names below say which one is meant.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import tritonclient

_PACKAGE = "tritonclient.grpc"


def _generated() -> tuple[ModuleType, ModuleType]:
    """`tritonclient.grpc.model_config_pb2` and `service_pb2`, without the client around them.

    `import tritonclient.grpc` imports grpcio and its asyncio: a fifth of the time of a start, and 12 MB. So a
    package without contents stands in its place while the two modules are imported, and nothing of that remains: who
    imports the client later gets all of it, with these same message classes (protobuf has one for each message).
    """
    if _PACKAGE not in sys.modules:
        stand_in = ModuleType(_PACKAGE)
        stand_in.__path__ = [str(Path(each) / "grpc") for each in tritonclient.__path__]
        sys.modules[_PACKAGE] = stand_in
        try:
            return _import_both()
        finally:
            for name in (_PACKAGE, f"{_PACKAGE}.model_config_pb2", f"{_PACKAGE}.service_pb2"):
                sys.modules.pop(name, None)
    return _import_both()


def _import_both() -> tuple[ModuleType, ModuleType]:
    return importlib.import_module(f"{_PACKAGE}.model_config_pb2"), importlib.import_module(f"{_PACKAGE}.service_pb2")


model_config_pb2, service_pb2 = _generated()

#: `tritonclient.grpc.model_config_pb2`: the classes, by their names in the .proto file.
pb: Any = model_config_pb2

#: An `inference.ModelConfig`.
ModelConfigMessage: TypeAlias = Any

#: Any message that a ModelConfig holds.
ConfigPart: TypeAlias = Any

#: A protobuf `FieldDescriptor` and `Descriptor`, whose stubs and run-time classes disagree.
Field: TypeAlias = Any
MessageType: TypeAlias = Any
