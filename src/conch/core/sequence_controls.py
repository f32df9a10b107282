"""The tensors that tell a model where in its sequence a request stands."""

from __future__ import annotations

import numpy as np

from conch.config.schema import ModelConfig, SequenceBatching, SequenceControl
from conch.errors import InvalidArgumentError
from conch.inference import SEQUENCE_END, SEQUENCE_START
from conch.tensor import DataType, Tensor
from conch.tensor.tensor import encode_bytes_elements

_FLAGS = (0, SEQUENCE_START, SEQUENCE_END, SEQUENCE_START | SEQUENCE_END)


class SequenceControls:
    """Makes the control tensors of one model's requests; shape [1, 1] where the model batches, else [1]."""

    def __init__(self, config: ModelConfig, batching: SequenceBatching) -> None:
        self._model = config.name
        self._shape = (1, 1) if config.max_batch_size else (1,)
        self._corrid = next((control for control in batching.controls if control.kind == "CORRID"), None)
        self._textual = self._corrid is not None and self._corrid.data_type is DataType.BYTES
        self._flagged = {flags: self._booleans(batching, flags, ready=True) for flags in _FLAGS}
        self._not_ready = self._booleans(batching, 0, ready=False)
        if self._corrid is not None:
            nothing = "" if self._textual else 0
            self._not_ready = (*self._not_ready, self._correlation(self._corrid, nothing))

    @property
    def textual(self) -> bool:
        """Whether the model takes correlation ids as strings."""
        return self._textual

    def check(self, correlation_id: int | str) -> None:
        """Raises InvalidArgumentError: the model takes correlation ids of another kind."""
        control = self._corrid
        if control is not None and self._textual != isinstance(correlation_id, str):
            expected, got = ("a string", "a number") if self._textual else ("a number", "a string")
            raise InvalidArgumentError(
                f"sequence {correlation_id} of model '{self._model}' must have {expected} as its id, got {got}: the "
                f"model takes it as {control.data_type.value} in '{control.name}'"
            )

    def tensors(self, correlation_id: int | str, flags: int) -> tuple[Tensor, ...]:
        """For a request of a sequence whose id was checked."""
        booleans = self._flagged[flags]
        return booleans if self._corrid is None else (*booleans, self._correlation(self._corrid, correlation_id))

    def not_ready(self) -> tuple[Tensor, ...]:
        """For the null request at a place without a request."""
        return self._not_ready

    def _booleans(self, batching: SequenceBatching, flags: int, *, ready: bool) -> tuple[Tensor, ...]:
        holds = {"START": bool(flags & SEQUENCE_START), "END": bool(flags & SEQUENCE_END), "READY": ready}
        return tuple(
            self._tensor(control, control.false_true[holds[control.kind]])
            for control in batching.controls
            if control.false_true is not None
        )

    def _correlation(self, control: SequenceControl, correlation_id: int | str) -> Tensor:
        if isinstance(correlation_id, str):
            data = encode_bytes_elements((correlation_id,))
        else:
            # Like Triton, a model that takes fewer bits gets the lowest ones.
            data = correlation_id.to_bytes(8, "little")[: control.data_type.item_bytes]
        return Tensor(control.name, control.data_type, self._shape, data)

    def _tensor(self, control: SequenceControl, value: float) -> Tensor:
        return Tensor.from_numpy(
            control.name, np.full(self._shape, value, dtype=control.data_type.dtype), control.data_type
        )
