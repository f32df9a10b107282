"""Messages of small standard services, built at run time in a pool of their own.

The generated modules (`grpcio-health-checking`, `grpcio-reflection`) would be two more dependencies for a few fields. A
pool of our own cannot clash with them where a program imports both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto

#: name, number, type ("string", "bytes", "int32", an enum ".E" or a message name), repeated or not
FieldSpec = tuple[str, int, str, bool]

_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "int32": _Field.TYPE_INT32,
}


class ProtoFile:
    """A .proto file under construction: proto3, messages of scalars and messages, methods of one service.

    Args:
        name: file name as other tools know it.
        package: its package.
    """

    def __init__(self, name: str, package: str) -> None:
        self.proto = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")

    def message(self, name: str, fields: Sequence[FieldSpec], oneof: str = "") -> descriptor_pb2.DescriptorProto:
        """Add a message; with `oneof` every field whose name starts with an upper-case marker `*` belongs to it."""
        message = self.proto.message_type.add(name=name)
        if oneof:
            message.oneof_decl.add(name=oneof)
        for field_name, number, kind, repeated in fields:
            field = message.field.add(name=field_name.removeprefix("*"), number=number)
            field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if field_name.startswith("*"):
                field.oneof_index = 0
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type = _Field.TYPE_ENUM if kind.endswith("Status") else _Field.TYPE_MESSAGE
                field.type_name = f".{self.proto.package}.{kind}"
        return message

    def service(self, name: str, methods: Mapping[str, tuple[str, str, bool, bool]]) -> None:
        """Add a service: method -> (request, response, client streams, server streams)."""
        service = self.proto.service.add(name=name)
        for method, (request, response, client_streaming, server_streaming) in methods.items():
            service.method.add(
                name=method,
                input_type=f".{self.proto.package}.{request}",
                output_type=f".{self.proto.package}.{response}",
                client_streaming=client_streaming,
                server_streaming=server_streaming,
            )

    def classes(self) -> dict[str, Any]:
        """Message name -> class, for the top-level messages."""
        pool = descriptor_pool.DescriptorPool()
        pool.Add(self.proto)
        package = self.proto.package
        return {
            message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{message.name}"))
            for message in self.proto.message_type
        }
