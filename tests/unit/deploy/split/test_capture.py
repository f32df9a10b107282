"""What reaches a network is recorded by name, however it is called, and the network is left as it was."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from conch.deploy.split.capture import preprocessed, recorded


class Network(torch.nn.Module):
    def forward(self, a: Any, b: Any = None, **kwargs: Any) -> Any:
        return a


def test_arguments_are_bound_by_name() -> None:
    network = Network()
    with recorded(network) as calls:
        network(torch.ones(1), torch.zeros(1), c=torch.ones(2), d="text")
        network.forward(torch.ones(3))
    assert [list(call.arguments) for call in calls] == [["a", "b", "c", "d"], ["a"]]
    assert [list(call.tensors) for call in calls] == [["a", "b", "c"], ["a"]]
    assert calls[1].output.shape == (3,)


def test_network_is_as_before_afterwards() -> None:
    network = Network()
    with recorded(network) as calls:
        pass
    network(torch.ones(1))
    assert calls == []
    assert "forward" not in vars(network)


class Pipe:
    def __init__(self, made: Any) -> None:
        self.made = made

    def preprocess(self, sample: Any) -> Any:
        return self.made


def test_what_a_preprocess_made_survives_a_pipeline_that_empties_it() -> None:
    pipe = Pipe({"a": 1})
    with preprocessed(pipe) as made:
        pipe.preprocess("x").pop("a")
    assert made == [{"a": 1}]


def test_parts_are_recorded_one_by_one() -> None:
    pipe = Pipe(iter([{"a": 1}, {"a": 2}]))
    with preprocessed(pipe) as made:
        assert list(pipe.preprocess("x")) == [{"a": 1}, {"a": 2}]
    assert made == [{"a": 1}, {"a": 2}]
