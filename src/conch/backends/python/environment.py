"""Which interpreter and environment a model's process gets."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from conch.backend_api import ModelSource
from conch.config.schema import ModelConfig
from conch.errors import InvalidArgumentError

_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")


class Launch(msgspec.Struct, frozen=True):
    """All it takes to start a process that can hold a model.

    Attributes:
        interpreter: the Python to run.
        environment: variables that differ from the server's own.
        version_directory: the files of the model version.
        model_directory: the directory that it lies in.
        code: the Python file that has the model's class.
        import_paths: where else that file may import from.
    """

    interpreter: str
    environment: Mapping[str, str]
    version_directory: str
    model_directory: str
    code: str
    import_paths: tuple[str, ...]


async def plan_launch(source: ModelSource, config: ModelConfig, runtime: Path | None = None) -> Launch:
    """How to start an instance of that model. Unpacks its environment first, where it brings one in an archive.

    Args:
        runtime: the file of a Python-based backend, which stands in for the model's own.

    Raises:
        InvalidArgumentError: EXECUTION_ENV_PATH leads to no Python environment.
    """
    directory = source.directory.absolute()
    interpreter, environment = sys.executable, _thread_environment(config)
    wanted = config.parameters.get("EXECUTION_ENV_PATH", "")
    if wanted:
        path = Path(wanted.replace("$$TRITON_MODEL_DIRECTORY", str(directory))).expanduser()
        root = await asyncio.to_thread(_unpacked, path, source.name) if path.name.endswith(_ARCHIVES) else path
        interpreter = _interpreter_in(root, source.name)
        environment |= _activated(root)
    version_directory = directory / str(source.version)
    import_paths: tuple[str, ...]
    if runtime is not None:
        code, import_paths = runtime.absolute(), (str(runtime.absolute().parent),)
    else:
        code = version_directory / (config.default_model_filename or "model.py")
        import_paths = (str(version_directory), str(directory))
    return Launch(interpreter, environment, str(version_directory), str(directory), str(code), import_paths)


def _thread_environment(config: ModelConfig) -> dict[str, str]:
    """Several instances share the cores instead of each taking all; the user's own setting goes first."""
    instances = sum(max(group.count, 1) * max(len(group.gpus), 1) for group in config.instance_group)
    if instances <= 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, cores // instances))}


def _interpreter_in(root: Path, model_name: str) -> str:
    interpreter = root / "bin" / "python"
    if not interpreter.exists():
        raise InvalidArgumentError(
            f"EXECUTION_ENV_PATH of model '{model_name}' must be a Python environment (a directory with bin/python) or "
            f"an archive of one ({', '.join(_ARCHIVES)}); there is no '{interpreter}'"
        )
    return str(interpreter)


def _activated(root: Path) -> dict[str, str]:
    """What the environment's own activate script would set."""
    variables = {"PATH": os.pathsep.join((str(root / "bin"), os.environ.get("PATH", os.defpath)))}
    if (root / "conda-meta").is_dir():
        library = str(root / "lib")
        inherited = os.environ.get("LD_LIBRARY_PATH")
        variables["LD_LIBRARY_PATH"] = os.pathsep.join((library, inherited)) if inherited else library
        variables["CONDA_PREFIX"] = str(root)
    else:
        variables["VIRTUAL_ENV"] = str(root)
    return variables


def _unpacked(archive: Path, model_name: str) -> Path:
    """The directory an archive was unpacked to, now or earlier; it changes with the archive."""
    try:
        status = archive.stat()
    except OSError as error:
        raise InvalidArgumentError(f"EXECUTION_ENV_PATH of model '{model_name}' cannot be read: {error}") from error
    identity = f"{archive.resolve()}\n{status.st_mtime_ns}\n{status.st_size}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "conch" / "environments"
    target = cache / hashlib.sha256(identity.encode()).hexdigest()[:24]
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    unpacking = Path(tempfile.mkdtemp(dir=cache))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(unpacking, filter="tar")
        unpacking.chmod(0o755)
        unpacking.rename(target)
    except OSError as error:
        if target.is_dir():  # another process was faster
            return target
        raise InvalidArgumentError(
            f"EXECUTION_ENV_PATH of model '{model_name}': '{archive}' cannot be unpacked: {error}"
        ) from error
    except tarfile.TarError as error:
        raise InvalidArgumentError(
            f"EXECUTION_ENV_PATH of model '{model_name}': '{archive}' cannot be unpacked: {error}"
        ) from error
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)
    return target
