"""gRPC server reflection (v1 and v1alpha): lists services and hands out the descriptors of their messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import descriptor_pb2

from conch.config.proto import model_config_pb2, service_pb2
from conch.wire.grpc.descriptors import ProtoFile
from conch.wire.grpc.dispatch import Method, StreamMethod
from conch.wire.grpc.health import health_file
from conch.wire.grpc.methods import parse
from conch.wire.grpc.outcome import Status
from conch.wire.grpc.stream_call import StreamCall

_VERSIONS = ("v1", "v1alpha")


def reflection_file(version: str) -> ProtoFile:
    """grpc/reflection/VERSION/reflection.proto."""
    file = ProtoFile(f"grpc/reflection/{version}/reflection.proto", f"grpc.reflection.{version}")
    file.message(
        "ServerReflectionRequest",
        [
            ("host", 1, "string", False),
            ("*file_by_filename", 3, "string", False),
            ("*file_containing_symbol", 4, "string", False),
            ("*file_containing_extension", 5, "ExtensionRequest", False),
            ("*all_extension_numbers_of_type", 6, "string", False),
            ("*list_services", 7, "string", False),
        ],
        oneof="message_request",
    )
    file.message("ExtensionRequest", [("containing_type", 1, "string", False), ("extension_number", 2, "int32", False)])
    file.message(
        "ServerReflectionResponse",
        [
            ("valid_host", 1, "string", False),
            ("original_request", 2, "ServerReflectionRequest", False),
            ("*file_descriptor_response", 4, "FileDescriptorResponse", False),
            ("*all_extension_numbers_response", 5, "ExtensionNumberResponse", False),
            ("*list_services_response", 6, "ListServiceResponse", False),
            ("*error_response", 7, "ErrorResponse", False),
        ],
        oneof="message_response",
    )
    file.message("FileDescriptorResponse", [("file_descriptor_proto", 1, "bytes", True)])
    file.message(
        "ExtensionNumberResponse", [("base_type_name", 1, "string", False), ("extension_number", 2, "int32", True)]
    )
    file.message("ListServiceResponse", [("service", 1, "ServiceResponse", True)])
    file.message("ServiceResponse", [("name", 1, "string", False)])
    file.message("ErrorResponse", [("error_code", 1, "int32", False), ("error_message", 2, "string", False)])
    file.service(
        "ServerReflection",
        {"ServerReflectionInfo": ("ServerReflectionRequest", "ServerReflectionResponse", True, True)},
    )
    return file


#: Both versions have the same messages; only the package's name differs, and it does not travel.
_CLASSES = reflection_file("v1").classes()


class Reflection:
    """Reflection over the services that have one of `paths` ("/package.Service/Method"), and itself."""

    def __init__(self, paths: Iterable[str]) -> None:
        own = [f"grpc.reflection.{version}.ServerReflection" for version in _VERSIONS]
        self._services = sorted({path.split("/")[1] for path in paths} | set(own))
        self._files: dict[str, bytes] = {}
        self._dependencies: dict[str, list[str]] = {}
        self._file_of: dict[str, str] = {}
        for module in (service_pb2, model_config_pb2):
            self._add(descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb))
        self._add(health_file().proto)
        for version in _VERSIONS:
            self._add(reflection_file(version).proto)

    def methods(self) -> list[Method]:
        """What is served, by path."""
        return [
            StreamMethod(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo", self._answer_all)
            for version in _VERSIONS
        ]

    def _add(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        self._files[file.name] = file.SerializeToString()
        self._dependencies[file.name] = list(file.dependency)
        for symbol in _symbols(file):
            self._file_of[symbol] = file.name

    async def _answer_all(self, call: StreamCall) -> None:
        async for message in call:
            request = parse(_CLASSES["ServerReflectionRequest"], message)
            await call.send([self._answer(request).SerializeToString()])

    def _answer(self, request: Any) -> Any:
        response = _CLASSES["ServerReflectionResponse"](valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            for service in self._services:
                response.list_services_response.service.add(name=service)
        elif kind == "file_by_filename":
            self._add_files(response, request.file_by_filename, "file", request.file_by_filename)
        elif kind == "file_containing_symbol":
            symbol = request.file_containing_symbol
            self._add_files(response, self._file_of.get(symbol, ""), "symbol", symbol)
        elif kind == "all_extension_numbers_of_type" and request.all_extension_numbers_of_type in self._file_of:
            response.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
        else:  # proto3 has no extensions
            response.error_response.error_code = Status.NOT_FOUND
            response.error_response.error_message = f"nothing found for {kind or 'an empty request'}"
        return response

    def _add_files(self, response: Any, name: str, what: str, wanted: str) -> None:
        """The file and all it depends on, each once."""
        if name not in self._files:
            response.error_response.error_code = Status.NOT_FOUND
            response.error_response.error_message = f"unknown {what} '{wanted}'"
            return
        queue, seen = [name], {name}
        while queue:
            current = queue.pop()
            response.file_descriptor_response.file_descriptor_proto.append(self._files[current])
            for dependency in self._dependencies[current]:
                if dependency not in seen:
                    seen.add(dependency)
                    queue.append(dependency)


def _symbols(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    """Full names of a file's services, methods, messages, fields and enums."""
    for service in file.service:
        yield f"{file.package}.{service.name}"
        for method in service.method:
            yield f"{file.package}.{service.name}.{method.name}"
    for enum in file.enum_type:
        yield f"{file.package}.{enum.name}"
    for message in file.message_type:
        yield from _message_symbols(file.package, message)


def _message_symbols(scope: str, message: descriptor_pb2.DescriptorProto) -> Iterator[str]:
    name = f"{scope}.{message.name}"
    yield name
    for field in message.field:
        yield f"{name}.{field.name}"
    for enum in message.enum_type:
        yield f"{name}.{enum.name}"
    for nested in message.nested_type:
        yield from _message_symbols(name, nested)
