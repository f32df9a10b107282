"""A request against its model's configuration: names, datatypes, shapes, batch size; with Triton's texts.

The rules are compiled once a model version, so that checking the common request is a handful of comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import msgspec

from conch.config.padding import Lengths, read_padding
from conch.config.schema import ModelConfig, ModelInput
from conch.core.padding import request_lengths, unpadded_shapes
from conch.core.tensor_bytes import check_tensor_bytes
from conch.errors import InvalidArgumentError
from conch.inference import Form, InferRequest, request_prefix
from conch.tensor import DataType, Tensor

#: Forms of requests remembered for each model version.
_MAX_FORMS = 1024

_BATCH_DIMENSION_NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting "
    "max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)


class CheckedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request that fits its model: the tensors as the model receives them (reshaped), and how it may be batched.

    Attributes:
        batch_size: inferences it counts for (1 for a model that does not batch).
        shape_key: requests of equal key may share a batch.
        lengths: of the groups that the model pads, in which such requests may differ; () where it pads none.
    """

    request: InferRequest
    batch_size: int
    shape_key: Hashable
    lengths: Lengths = ()


class RequestRules:
    """The compiled checks of one model configuration."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._model = config.name
        self._max_batch_size = config.max_batch_size
        self._inputs = {spec.name: _InputRule(spec) for spec in config.input}
        self._outputs = frozenset(spec.name for spec in config.output)
        self._most = len(self._inputs)
        self._fewest = sum(not spec.optional for spec in config.input)
        self._any_reshape = any(spec.reshape is not None for spec in config.input)
        self._padding = read_padding(config)
        #: What was found out about requests by their form: batch size, shape key and lengths.
        self._known: dict[Form, tuple[int, Hashable, Lengths]] = {}
        # Equal shapes need no comparison where every request has the same fixed ones.
        self._uniform = self._most == self._fewest and all(
            rule.fixed or spec.allow_ragged_batch
            for spec, rule in zip(config.input, self._inputs.values(), strict=True)
        )

    def check(self, request: InferRequest) -> CheckedRequest:
        """Raises InvalidArgumentError with what was expected and what came."""
        form = request.form
        known = self._known.get(form) if form is not None else None
        if known is not None:
            return CheckedRequest(request, *known)
        checked = self._check(request)
        if form is not None and not self._any_reshape:
            if len(self._known) >= _MAX_FORMS:
                self._known.clear()
            self._known[form] = (checked.batch_size, checked.shape_key, checked.lengths)
        return checked

    def _check(self, request: InferRequest) -> CheckedRequest:
        for output in request.outputs:
            if output.name not in self._outputs:
                raise InvalidArgumentError(f"unexpected inference output '{output.name}' for model '{self._model}'")
        inputs = request.inputs
        if not self._fewest <= len(inputs) <= self._most:
            raise InvalidArgumentError(self._prefix(request) + self._count_text(inputs))
        batch_size = self._batch_size(request) if self._max_batch_size else 1
        first = 1 if self._max_batch_size else 0
        for tensor in inputs:
            rule = self._inputs.get(tensor.name)
            if rule is None:
                raise InvalidArgumentError(f"unexpected inference input '{tensor.name}' for model '{self._model}'")
            if tensor.datatype is not rule.datatype:
                raise InvalidArgumentError(
                    f"{self._prefix(request)}inference input '{tensor.name}' data-type is '{tensor.datatype.value}', "
                    f"but model '{self._model}' expects '{rule.datatype.value}'"
                )
            if not rule.accepts(tensor.shape[first:]):
                raise InvalidArgumentError(self._prefix(request) + self._shape_text(tensor, rule))
            size = rule.fixed_bytes
            if size < 0 or len(tensor.data) != size * batch_size:
                check_tensor_bytes(tensor, self._model, request.id)
        if len(inputs) < self._most:
            self._check_required(request)
        key: Hashable = None
        lengths: Lengths = ()
        if self._padding is not None:
            lengths = request_lengths(request, self._padding, self._model)
            key = unpadded_shapes([tensor for tensor in inputs if self._compares(tensor.name)], self._padding)
        elif not self._uniform:
            key = tuple((tensor.name, tensor.shape[first:]) for tensor in inputs if self._compares(tensor.name))
        if self._any_reshape:
            request = self._reshaped(request, first)
        return CheckedRequest(request, batch_size, key, lengths)

    def _compares(self, name: str) -> bool:
        return not self._inputs[name].ragged

    def _batch_size(self, request: InferRequest) -> int:
        if not request.inputs:
            return 1
        batch_size = -1
        # Last to first, as Triton happens to look at them: its error names the earlier of two that differ.
        for tensor in reversed(request.inputs):
            if not tensor.shape:
                raise InvalidArgumentError(
                    f"{self._prefix(request)}input '{tensor.name}' has no shape but model requires batch dimension for "
                    f"'{self._model}'"
                )
            if batch_size < 0:
                batch_size = tensor.shape[0]
            elif tensor.shape[0] != batch_size:
                raise InvalidArgumentError(
                    f"{self._prefix(request)}input '{tensor.name}' batch size does not match other inputs for "
                    f"'{self._model}'"
                )
        if batch_size < 1:
            raise InvalidArgumentError(
                f"{self._prefix(request)}inference request batch-size must be >= 1 for '{self._model}', got "
                f"{batch_size}"
            )
        if batch_size > self._max_batch_size:
            raise InvalidArgumentError(
                f"{self._prefix(request)}inference request batch-size must be <= {self._max_batch_size} for "
                f"'{self._model}'"
            )
        return batch_size

    def _check_required(self, request: InferRequest) -> None:
        given = {tensor.name for tensor in request.inputs}
        missing = [name for name, rule in self._inputs.items() if not rule.optional and name not in given]
        if missing:
            raise InvalidArgumentError(self._prefix(request) + self._count_text(request.inputs))

    def _count_text(self, inputs: Sequence[Tensor]) -> str:
        given = [tensor.name for tensor in inputs]
        if self._most != self._fewest:
            expected = f"expected number of inputs between {self._fewest} and {self._most}"
        else:
            expected = f"expected {self._most} inputs"
        missing = [name for name, rule in self._inputs.items() if not rule.optional and name not in given]
        text = (
            f"{expected} but got {len(given)} inputs for model '{self._model}'. Got input(s) [{_quoted(sorted(given))}]"
        )
        # The stray bracket for too many inputs is Triton's.
        listed = f"[{_quoted(missing)}]" if missing else "]"
        return f"{text}, but missing required input(s) {listed}. Please provide all required input(s)."

    def _shape_text(self, tensor: Tensor, rule: _InputRule) -> str:
        expected = (-1, *rule.dims) if self._max_batch_size else rule.dims
        return (
            f"unexpected shape for input '{tensor.name}' for model '{self._model}'. Expected {_dims(expected)}, got "
            f"{_dims(tensor.shape)}. {_BATCH_DIMENSION_NOTE if self._max_batch_size else ''}"
        )

    def _reshaped(self, request: InferRequest, first: int) -> InferRequest:
        inputs = []
        for tensor in request.inputs:
            rule = self._inputs[tensor.name]
            if rule.reshape is None:
                inputs.append(tensor)
                continue
            shape = tensor.shape[:first] + reshape_dims(tensor.shape[first:], rule.dims, rule.reshape)
            inputs.append(Tensor(tensor.name, tensor.datatype, shape, tensor.data))
        return msgspec.structs.replace(request, inputs=tuple(inputs), form=None)

    def _prefix(self, request: InferRequest) -> str:
        return request_prefix(request.id)


class _InputRule:
    """The compiled check of one input."""

    # fixed_bytes: the size of one inference's data, -1 where it varies.
    __slots__ = ("datatype", "dims", "fixed", "fixed_bytes", "optional", "ragged", "reshape")

    def __init__(self, spec: ModelInput) -> None:
        self.datatype: DataType = spec.data_type
        self.dims = spec.dims
        self.fixed = -1 not in spec.dims
        item_bytes = spec.data_type.item_bytes
        self.fixed_bytes = math.prod(spec.dims) * item_bytes if self.fixed and item_bytes else -1
        self.optional = spec.optional
        self.ragged = spec.allow_ragged_batch
        self.reshape = spec.reshape

    def accepts(self, dims: tuple[int, ...]) -> bool:
        if dims == self.dims:
            return True
        if self.fixed or len(dims) != len(self.dims):
            return False
        return all(
            expected == got or (expected == -1 and got >= 0) for expected, got in zip(self.dims, dims, strict=True)
        )


def reshape_dims(actual: Sequence[int], source: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """`actual` (which fits `source`) in the form `target`: each -1 of `target` takes the size that the -1 of `source`
    at the same place among the -1s has."""
    variable = iter([size for size, dim in zip(actual, source, strict=True) if dim == -1])
    return tuple(next(variable) if dim == -1 else dim for dim in target)


def _dims(dims: Sequence[int]) -> str:
    return "[" + ",".join(map(str, dims)) + "]"


def _quoted(names: Sequence[str]) -> str:
    return ",".join(f"'{name}'" for name in names)
