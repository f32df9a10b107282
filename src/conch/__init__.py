"""conch: an inference server for HuggingFace models, wire- and repository-compatible with NVIDIA Triton.

In a program: `Server` serves model repositories to the program itself, `Serve` serves Python functions over HTTP and
gRPC. They and what belongs to them are imported at their first use, so that `import conch` stays light; their types are
in `__init__.pyi`.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "DynamicBatcher": "conch.inprocess.binding",
    "InferenceRequest": "conch.inprocess.inference",
    "InferenceResponse": "conch.inprocess.inference",
    "Model": "conch.inprocess.server",
    "ModelConfig": "conch.inprocess.binding",
    "Request": "conch.backends.function",
    "Serve": "conch.inprocess.serve",
    "Server": "conch.inprocess.server",
    "Tensor": "conch.inprocess.binding",
    "batch": "conch.inprocess.decorators",
    "sample": "conch.inprocess.decorators",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'conch' has no attribute '{name}'")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
