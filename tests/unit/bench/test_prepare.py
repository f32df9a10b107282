from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import pytest

from conch.bench.channel import Answer, Done
from conch.bench.prepare import Order, batch_of, make_call, prepare
from conch.bench.samples import Wishes
from conch.bench.target import Target, TargetInput
from conch.bench.wires import Call, Wire
from conch.errors import ConchError, InvalidArgumentError, UnavailableError
from conch.tensor import DataType

FP32 = TargetInput("x", DataType.FP32, (3,))
TEXT = TargetInput("text", DataType.BYTES, (1,))


def target(
    *inputs: TargetInput, batches: bool = True, task: str = "", settings: Mapping[str, str] | None = None
) -> Target:
    return Target("m", "", inputs, ("y", "json"), batches, task, settings=settings or {})


class FakeWire:
    """Stands in for `Wire`: each call is answered by `refuse` with an error, "" to accept it."""

    def __init__(self, refuse: Callable[[Call], str], lost: bool = False) -> None:
        self.asked: list[Call] = []
        self.usable = True
        self._refuse = refuse
        self._lost = lost

    async def dial(self) -> FakeWire:
        self.usable = True
        return self

    def encode(self, call: Call) -> bytes:
        self.asked.append(call)
        return b""

    def send(self, request: bytes, done: Done) -> None:
        done(Answer(self._refuse(self.asked[-1]), lost=self._lost))

    def close(self) -> None:
        self.usable = False


def prepared(wire: FakeWire, model: Target, **order: Any) -> list[Call]:
    wishes = Wishes(count=8)
    return asyncio.run(prepare(cast(Wire, wire), model, Order(wishes, **order), 20))


def texts(call: Call) -> list[str]:
    return [element.decode() for element in call.inputs[0].as_numpy().reshape(-1)]


def test_the_largest_request_is_tried() -> None:
    wire = FakeWire(lambda call: "")
    calls = prepared(wire, target(TEXT))
    assert len(calls) == 8
    assert [texts(call) for call in wire.asked] == [max(map(texts, calls), key=lambda each: len(each[0]))]


def test_the_mask_token_that_the_model_takes_is_found() -> None:
    wire = FakeWire(lambda call: "" if "<mask>" in texts(call)[0] else "no mask token found")
    calls = prepared(wire, target(TEXT, task="fill-mask"))
    assert all("<mask>" in texts(call)[0] for call in calls)


def test_texts_too_long_are_truncated_where_the_model_can() -> None:
    wire = FakeWire(lambda call: "" if call.parameters.get("truncation") else "the text has 98 tokens")
    settings = {"request_parameters": "top_k:int truncation:bool"}
    assert prepared(wire, target(TEXT, settings=settings))[0].parameters == {"truncation": True}
    with pytest.raises(ConchError, match="refuses the request: the text has 98 tokens"):
        prepared(wire, target(TEXT))


def test_refusals_of_large_requests_are_left_to_be_counted() -> None:
    wire = FakeWire(lambda call: "too long" if len(texts(call)[0]) > 100 else "")
    calls = prepared(wire, target(TEXT), given=[{}])
    assert any(len(texts(call)[0]) > 100 for call in calls)


def test_a_server_that_vanishes_is_not_asked_again() -> None:
    wire = FakeWire(lambda call: "the server closed the connection", lost=True)
    with pytest.raises(UnavailableError, match="model 'm': the server closed the connection"):
        prepared(wire, target(TEXT, task="fill-mask"))
    assert len(wire.asked) == 1


def test_a_batch_takes_samples_that_follow_each_other() -> None:
    samples = [{"x": np.full(3, value, np.float32)} for value in range(4)]
    call = make_call(target(FP32), Order(batch=3), samples, 2)
    assert call.inputs[0].as_numpy()[:, 0].tolist() == [2.0, 3.0, 0.0]
    assert batch_of(call, target(FP32)) == 3


def test_a_given_input_is_repeated_over_the_batch() -> None:
    given = [{"x": np.ones((1, 3), np.float32)}]
    assert make_call(target(FP32), Order(given=given, batch=4), [{}], 0).inputs[0].shape == (4, 3)


def test_given_rows_are_used_in_turn() -> None:
    given = [{"x": np.full((1, 3), value, np.float32)} for value in range(2)]
    calls = [make_call(target(FP32), Order(given=given), [{}] * 4, index) for index in range(4)]
    assert [call.inputs[0].as_numpy()[0, 0] for call in calls] == [0.0, 1.0, 0.0, 1.0]


def test_a_model_that_does_not_batch_takes_tensors_as_they_are() -> None:
    samples = [{"x": np.ones(3, np.float32)}]
    unbatched = target(FP32, batches=False)
    call = make_call(unbatched, Order(), samples, 0)
    assert (call.inputs[0].shape, batch_of(call, unbatched)) == ((3,), 1)
    with pytest.raises(InvalidArgumentError, match="does not batch"):
        make_call(unbatched, Order(batch=2), samples, 0)


def test_samples_of_unequal_shape_make_no_batch() -> None:
    samples = [{"x": np.ones(size, np.float32)} for size in (2, 3)]
    with pytest.raises(InvalidArgumentError, match="samples of unequal shape: leave --batch out"):
        make_call(target(FP32), Order(batch=2), samples, 0)


def test_outputs_for_people_are_left_out_unless_asked_for() -> None:
    samples = [{"x": np.ones(3, np.float32)}]
    assert make_call(target(FP32), Order(), samples, 0).outputs == ("y",)
    assert make_call(target(FP32), Order(outputs=("json",)), samples, 0).outputs == ("json",)
