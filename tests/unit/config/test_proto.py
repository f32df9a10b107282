"""The messages come without the client around them, and are those the client has."""

from __future__ import annotations

import subprocess
import sys

MESSAGES_THEN_CLIENT = """
import sys
from conch import app
from conch.config.proto import model_config_pb2, service_pb2
assert "grpc" not in sys.modules, "the server imports grpcio"
assert "tritonclient.grpc" not in sys.modules, "a package without contents was left behind"
import tritonclient.grpc as client
assert client.InferInput("A", [1], "INT32").name() == "A"
assert client.service_pb2.ModelInferRequest is service_pb2.ModelInferRequest
assert client.model_config_pb2.ModelConfig is model_config_pb2.ModelConfig
"""

CLIENT_THEN_MESSAGES = """
import tritonclient.grpc as client
from conch.config.proto import model_config_pb2, service_pb2
assert client.service_pb2 is service_pb2
assert client.model_config_pb2 is model_config_pb2
"""


def _runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_server_imports_no_grpcio_and_a_client_beside_it_has_the_same_messages() -> None:
    _runs(MESSAGES_THEN_CLIENT)


def test_a_client_that_was_there_before_is_used() -> None:
    _runs(CLIENT_THEN_MESSAGES)
