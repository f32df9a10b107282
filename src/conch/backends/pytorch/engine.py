"""A program at work: numpy in, numpy out, without copies on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from conch.backends.pytorch.naming import input_positions, output_positions
from conch.backends.pytorch.options import RunPlan
from conch.backends.pytorch.program import Program, last_line
from conch.backends.views import writable_view
from conch.config.batch_tensors import engine_inputs
from conch.config.schema import ModelConfig
from conch.errors import BackendError, Code, ConchError
from conch.tensor import DataType


class TorchEngine:
    """One instance's use of a program.

    Args:
        release: gives the share of the program back.

    Raises:
        InvalidArgumentError: the inputs of the configuration are not the arguments of the model.
    """

    #: PyTorch's number of threads is a setting of the thread that runs it.
    any_thread = False

    def __init__(
        self, torch: Any, program: Program, config: ModelConfig, plan: RunPlan, release: Callable[[], None]
    ) -> None:
        self._torch = torch
        self._program: Program | None = program
        self._plan = plan
        self._release = release
        inputs = [spec.name for spec in engine_inputs(config)]
        outputs = [spec.name for spec in config.output]
        positions = input_positions(config.name, inputs, program.arguments)
        self._inputs = dict(zip(inputs, positions, strict=True))
        self._outputs = dict(zip(outputs, output_positions(config.name, outputs), strict=True))
        self._datatypes = {spec.name: spec.data_type for spec in engine_inputs(config)}
        self._output_dims = {spec.name: spec.dims for spec in config.output} if not config.max_batch_size else {}

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Sequence[np.ndarray]:
        """Run the program; see the port. All outputs are computed."""
        program, torch = self._program, self._torch
        assert program is not None
        try:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode() if self._plan.inference_mode else torch.no_grad())
                if program.kind == "TorchScript":
                    stack.enter_context(torch.jit.optimized_execution(self._plan.optimized))
                values = {self._inputs[name]: self._value(name, array) for name, array in inputs.items()}
                answer = program.call(values)
                arrays = [self._array(name, self._pick(name, answer)) for name in outputs]
        except ConchError:
            raise
        except Exception as error:  # a model can raise anything
            raise BackendError(f"PyTorch execute failure: {last_line(error)}") from error
        finally:
            if self._plan.clean_cache and self._plan.device != "cpu":
                torch.cuda.empty_cache()
        return arrays

    def close(self) -> None:
        """Let go of the program."""
        self._program = None
        self._release()

    def _value(self, name: str, array: np.ndarray) -> Any:
        """An input as the model takes it: a tensor over the array's memory, or a list of strings."""
        torch, datatype = self._torch, self._datatypes[name]
        if datatype is DataType.BYTES:
            return _texts(name, array)
        assert self._program is not None
        array = array.copy() if self._program.writes else writable_view(array)
        if datatype is DataType.BF16:
            tensor = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            tensor = torch.from_numpy(array)
        return tensor.to(self._plan.device) if self._plan.device != "cpu" else tensor

    def _pick(self, name: str, answer: Any) -> Any:
        """The result that an output is: by name from a dictionary, else by its position."""
        torch = self._torch
        if isinstance(answer, Mapping):
            if name in answer:
                return answer[name]
            results = list(answer.values())
        elif isinstance(answer, tuple) or (isinstance(answer, list) and not _is_texts(answer)):
            results = list(answer)
        else:
            results = [answer]
        position = self._outputs[name]
        if position >= len(results):
            raise BackendError(
                f"The output {name} in the model configuration refers to an output index which doesn't exist. This "
                f"model has {len(results)} outputs",
                Code.INVALID_ARG,
            )
        result = results[position]
        if not isinstance(result, torch.Tensor) and not _is_texts(result):
            raise BackendError(
                f"output '{name}' at index {position} must be of type Tensor or List[str], received "
                f"{type(result).__name__}"
            )
        return result

    def _array(self, name: str, result: Any) -> np.ndarray:
        array: np.ndarray
        if isinstance(result, list):
            array = np.array(result, dtype=object)
        else:
            tensor = result.detach().to("cpu").contiguous()
            if tensor.dtype == self._torch.bfloat16:
                array = tensor.view(self._torch.int16).numpy().view(np.uint16)
            else:
                array = tensor.numpy()
        if array.shape == () and name in self._output_dims:
            array = array.reshape([1] * len(self._output_dims[name]))
        return array


def _texts(name: str, array: np.ndarray) -> list[str]:
    """BYTES elements as a list of strings: PyTorch has no tensors of strings. A dimension of 1 after the batch goes."""
    if sum(size != 1 for size in array.shape[1:]):
        raise BackendError(
            f"input '{name}' of shape {list(array.shape)}: strings are given to PyTorch models as a list, which has "
            "one dimension",
            Code.INVALID_ARG,
        )
    try:
        return [element.decode() for element in array.ravel()]
    except UnicodeDecodeError as error:
        raise BackendError(f"an element of input '{name}' is no UTF-8 text: {error}", Code.INVALID_ARG) from error


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(element, str) for element in value)
