"""A network as TorchScript, and TorchScript as something to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from conch.deploy.export.prove import Arrays
from conch.deploy.export.quiet import quiet
from conch.deploy.extras import require
from conch.deploy.split.network import Network

FILE = "model.pt"


def write_torchscript(network: Network, directory: Path) -> Path:
    """Trace into `directory`/model.pt.

    The arguments of its `forward` are called like the network's inputs, which is one of the conventions by which
    Triton's PyTorch backend finds inputs; outputs are found by their order in config.pbtxt.

    Raises:
        Exception: whatever tracing raises.
    """
    modules = require("conch.deploy.export.modules")
    torch = require("torch")
    directory.mkdir(parents=True, exist_ok=True)
    with quiet(), torch.inference_mode(False), torch.no_grad():
        traced = torch.jit.trace(modules.exportable(network), modules.example(network), check_trace=False)
        traced.save(str(directory / FILE))
    network.module.eval()
    return directory / FILE


class TorchScriptRunner:
    """A model.pt in libtorch."""

    def __init__(self, path: Path, outputs: tuple[str, ...], threads: int, device: str = "cpu") -> None:
        torch = self._torch = require("torch")
        self.device = "cuda" if device == "cuda" and torch.cuda.is_available() else "cpu"
        self._threads = threads
        with quiet():
            self._module = torch.jit.load(str(path), map_location=self.device).eval()
        self.inputs = tuple(argument.name for argument in self._module.forward.schema.arguments[1:])
        self._outputs = outputs

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        torch, before = self._torch, self._torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                tensors = [torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in self.inputs]
                values = self._module(*(tensor.to(self.device) for tensor in tensors))
                return {name: value.cpu().numpy() for name, value in zip(self._outputs, values, strict=True)}
        finally:
            torch.set_num_threads(before)
