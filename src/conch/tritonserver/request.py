"""A request as the API has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from conch.errors import UnsupportedError
from conch.inference import Parameter
from conch.inprocess import inference
from conch.tritonserver.enums import MemoryType
from conch.tritonserver.memory import MemoryAllocator
from conch.tritonserver.tensor import DeviceOrMemoryType, Tensor

if TYPE_CHECKING:
    from conch.tritonserver.model import Model


@dataclass
class InferenceRequest:
    """One request to a model.

    Attributes:
        inputs: input name -> tensor, or what can become one: an array, anything with `__dlpack__`, a list.
        output_memory_type: where outputs shall lie; the CPU only.
        output_memory_allocator: gives the memory that outputs are copied to; None leaves them where they are.
        response_queue: not offered; iterate over the responses.
    """

    model: Model
    request_id: str | None = None
    flags: int = 0
    correlation_id: int | str | None = None
    priority: int = 0
    timeout: int = 0
    inputs: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    output_memory_type: DeviceOrMemoryType | None = None
    output_memory_allocator: MemoryAllocator | None = None
    response_queue: Any = None

    def for_conch(self) -> inference.InferenceRequest:
        """The request of `conch.Server`.

        Raises:
            UnsupportedError: it asks for what is not offered.
        """
        wanted = self.output_memory_type
        if wanted not in (None, "cpu", MemoryType.CPU, (MemoryType.CPU, 0)):
            raise UnsupportedError(f"outputs are in host memory, not in {wanted!r}")
        if self.response_queue is not None:
            raise UnsupportedError("'response_queue' of a request is not offered; iterate over the responses")
        return inference.InferenceRequest(
            inputs={key: value.core if isinstance(value, Tensor) else value for key, value in self.inputs.items()},
            request_id=self.request_id or "",
            correlation_id=self.correlation_id or 0,
            flags=self.flags,
            priority=self.priority,
            timeout=self.timeout,
            parameters=self.parameters,
        )
