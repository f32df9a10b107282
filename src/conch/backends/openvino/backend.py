"""The backend itself: completes configurations from model files, compiles models and shares them between instances."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from conch.backend_api import Instance, InstanceSpec, ModelSource
from conch.backends.cores import competing_instances
from conch.backends.library import import_library
from conch.backends.openvino.engine import OpenVinoEngine, describe, host_types, prepare, read_signature
from conch.backends.openvino.options import DEFAULT_MAX_BATCH_SIZE, CompilePlan, plan_compile
from conch.backends.parameters import int_of
from conch.backends.sharing import Shared
from conch.backends.signature import ModelTensor, Signature, check, complete, is_complete
from conch.backends.threaded import ThreadedInstance
from conch.config.schema import ModelConfig
from conch.errors import ConchError, InternalError, UnavailableError

logger = logging.getLogger(__name__)

#: Files looked for in a version directory when the configuration names none.
_FILENAMES = ("model.xml", "model.onnx")


class _Loaded(msgspec.Struct, frozen=True):
    """A compiled model. Holding the configuration keeps its identity, which is part of the key."""

    compiled: Any
    signature: Signature
    plan: CompilePlan
    config: ModelConfig


class OpenVinoBackend:
    """Runs OpenVINO and ONNX models. Instances of one model share what was compiled; each has an infer request."""

    def __init__(self) -> None:
        self._shared: Shared[_Loaded] = Shared()

    async def complete_config(self, source: ModelSource, config: ModelConfig) -> ModelConfig:
        """The configuration with what it lacks read from the model file; a complete one is returned as it is."""
        if is_complete(config):
            return config
        default = int_of(source.settings, "default-max-batch-size", DEFAULT_MAX_BATCH_SIZE)
        path = find_model(source.version_directory, config.default_model_filename)
        signature = await asyncio.to_thread(_read_file, path, source.name)
        return complete(config, signature, default)

    async def load(self, spec: InstanceSpec) -> Instance:
        """Start a thread that compiles the model, or joins what its siblings have compiled."""
        instance = ThreadedInstance(spec, lambda: self._open(spec))
        await instance.start()
        return instance

    def _open(self, spec: InstanceSpec) -> OpenVinoEngine:
        openvino = import_library("openvino", "openvino")
        key = (id(spec.config), spec.source.version)
        loaded = self._shared.acquire(key, lambda: _load(openvino, spec))
        try:
            request = loaded.compiled.create_infer_request()
        except Exception as error:  # OpenVINO raises RuntimeError, its plugins other things
            self._shared.release(key)
            raise InternalError(f"openvino error: {describe(error)}") from error
        release = partial(self._shared.release, key)
        return OpenVinoEngine(openvino, request, loaded.signature, spec.config, loaded.plan, release)


def find_model(directory: Path, filename: str) -> Path:
    """The model file of a version: the one named, else the usual ones; a directory stands for itself."""
    if filename and filename != _FILENAMES[0]:
        return directory / filename
    found = (directory / name for name in _FILENAMES if (directory / name).exists())
    return next(found, directory / _FILENAMES[0])


def _load(openvino: Any, spec: InstanceSpec) -> _Loaded:
    config = spec.config
    plan = plan_compile(spec)
    if spec.kind == "GPU" and plan.device == "CPU":
        logger.warning(
            "model '%s' runs on the CPU: OpenVINO does not use NVIDIA GPUs (the parameter TARGET_DEVICE names others)",
            config.name,
        )
    core = openvino.Core()
    path = find_model(spec.source.version_directory, config.default_model_filename)
    try:
        if plan.extension:
            core.add_extension(plan.extension)
        model = _read_model(core, path, spec.name)
        signature = prepare(openvino, model, config, plan)
        check(config, _open_batch(signature) if plan.fixed_batch else signature)
        compiled = core.compile_model(host_types(openvino, model), plan.device, dict(plan.properties))
    except ConchError:
        raise
    except Exception as error:  # OpenVINO raises RuntimeError, its converters other things
        raise InternalError(f"openvino error: {describe(error)} (model file '{path}')") from error
    _log(openvino, spec, plan, compiled)
    return _Loaded(compiled, signature, plan, config)


def _open_batch(signature: Signature) -> Signature:
    """The signature of a model with a fixed batch size as the scheduler may see it: with any."""

    def opened(tensor: ModelTensor) -> ModelTensor:
        return msgspec.structs.replace(tensor, shape=(-1, *tensor.shape[1:])) if tensor.shape else tensor

    return Signature(tuple(map(opened, signature.inputs)), tuple(map(opened, signature.outputs)))


def _read_file(path: Path, model_name: str) -> Signature:
    openvino = import_library("openvino", "openvino")
    return read_signature(_read_model(openvino.Core(), path, model_name), ())


def _read_model(core: Any, path: Path, name: str) -> Any:
    """Read a model file.

    Raises:
        UnavailableError: there is no such file.
        InternalError: OpenVINO cannot read it; the text says why.
    """
    if not path.exists():
        raise UnavailableError(f"unable to find '{path}' for model instance '{name}'")
    try:
        return core.read_model(str(path))
    except Exception as error:  # the frontends raise different things
        raise InternalError(f"openvino error: {describe(error)} (model file '{path}')") from error


def _log(openvino: Any, spec: InstanceSpec, plan: CompilePlan, compiled: Any) -> None:
    instances = competing_instances(spec.config)
    logger.info(
        "model '%s' version %d: openvino %s, %s %s, %d %s on one compiled model, %s stream(s) with %s thread(s) in all",
        spec.config.name, spec.source.version, openvino.__version__.partition("-")[0], plan.device,
        _property(compiled, "INFERENCE_PRECISION_HINT"), instances, "instance" if instances == 1 else "instances",
        _property(compiled, "NUM_STREAMS"), _property(compiled, "INFERENCE_NUM_THREADS"),
    )  # fmt: skip


def _property(compiled: Any, key: str) -> str:
    """A property of a compiled model as text; devices differ in what they have."""
    try:
        value = compiled.get_property(key)
    except RuntimeError:
        return "unknown"
    return str(value.get_type_name()) if hasattr(value, "get_type_name") else str(value)
