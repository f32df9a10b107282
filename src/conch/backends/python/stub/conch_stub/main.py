"""The process of one instance: imports the model, then does what its server asks until that goes away."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from . import protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How much of the control socket is read at once; a small batch comes whole.
_READ_BYTES = 1 << 18

#: How long the process may take to end once its server has gone.
_EXIT_SECONDS = 10.0


class Failure(Exception):
    """A failure that is described already and needs no traceback."""


class ModelHost:
    """Holds the model and answers the server's messages, one by one."""

    def __init__(
        self, version_directory: str, code: str, sockets: Sequence[socket.socket], files: Sequence[int]
    ) -> None:
        self._checks, self._announcements = sockets
        self._version_directory = version_directory
        self._code = code
        self._inputs, self._outputs = files
        self._module: Any = None
        self._model: Any = None
        self._executor: Any = None

    def answer(self, message: tuple[Any, ...]) -> tuple[Any, ...]:
        """Do what a message asks; errors of the model become FAILED answers."""
        kind = message[0]
        try:
            if kind == protocol.EXECUTE:
                return self._executor.run(self._model, message)  # type: ignore[no-any-return]
            if kind == protocol.IMPORT:
                self._import_model()
                return (protocol.OK, None)
            if kind == protocol.COMPLETE:
                return (protocol.OK, self._complete(message[1]))
            if kind == protocol.INITIALIZE:
                self._initialize(*message[1:])
                return (protocol.OK, hasattr(self._model, "is_ready"))
            self._finalize()
            return (protocol.OK, None)
        except Failure as failure:
            return (protocol.FAILED, 1, str(failure), "")
        except BaseException as error:
            from . import errors

            if kind == protocol.EXECUTE and not hasattr(self._model, "execute"):
                return (protocol.FAILED, 1, f"Python model {self._code} does not implement `execute` method.", "")
            if isinstance(error, errors.TritonModelException) and _is_own(error):
                return (protocol.FAILED, 1, str(error), "")
            return (protocol.FAILED, 1, errors.describe(error), errors.format_traceback(error))

    def _import_model(self) -> None:
        if self._module is not None:
            return
        try:
            import numpy  # noqa: F401
        except ImportError as error:
            raise Failure(
                f"the interpreter {sys.executable} cannot import numpy, which models need ({error}): install it there"
            ) from error
        from . import fresh_source, pb_utils

        fresh_source.import_fresh([self._version_directory, self._version_directory.rpartition("/")[0]])
        pb_utils._model_directory = self._version_directory
        for name in ("triton_python_backend_utils", "c_python_backend_utils"):
            sys.modules[name] = pb_utils
        directory = self._code.rpartition("/")[0]
        is_own = directory == self._version_directory  # and not that of a Python-based backend
        self._module = _load_module(self._code, directory.rpartition("/")[2] if is_own else "")
        if not hasattr(self._module, "TritonPythonModel"):
            self._module = None
            module = ".".join(self._code.removesuffix(".py").split("/")[-2:])
            raise Failure(f"AttributeError: module '{module}' has no attribute 'TritonPythonModel'")

    def _complete(self, config_json: str) -> str | None:
        self._import_model()
        complete = getattr(self._module.TritonPythonModel, "auto_complete_config", None)
        if complete is None:
            return None
        import json

        from .model_config import ModelConfig

        config = ModelConfig(config_json)
        name = config.as_dict()["name"]
        completed = complete(config)
        if not isinstance(completed, ModelConfig):
            raise Failure(f"auto_complete_config function in model '{name}' must return a valid pb.ModelConfig object.")
        return json.dumps(completed.as_dict())

    def _initialize(self, args: dict[str, str], output_names: tuple[str, ...], decoupled: bool) -> None:
        self._import_model()
        from . import bls, calls, readiness
        from .child_memory import ChildMemory
        from .execution import Executor
        from .loans import Borrower
        from .memory import SegmentFile, SegmentPool
        from .request import InferenceRequest

        InferenceRequest._model_outputs = output_names
        pool = SegmentPool(SegmentFile(self._outputs))
        memory = ChildMemory(self._inputs, pool, Borrower(self._announcements))
        calls.server().on_released = pool.release
        self._executor = Executor(memory, args["model_instance_name"], decoupled)
        model = self._module.TritonPythonModel()
        initialize = getattr(model, "initialize", None)
        if initialize is not None:
            initialize(args)
        self._model = model
        bls.allow(bls.Caller(memory))
        if hasattr(model, "is_ready"):
            readiness.answer_checks(self._checks, model)

    def _finalize(self) -> None:
        from . import bls

        bls.allow(None)
        model, self._model = self._model, None
        finalize = getattr(model, "finalize", None)
        if finalize is not None:
            finalize()


def _load_module(path: str, package: str) -> Any:
    """Import the model's file, as a module of the package that its directory is (as Triton does: `1.model` may import
    from `.tokenizer`), or of none. `import model` finds it, too."""
    from pathlib import Path

    file = Path(path)
    if not file.is_file():
        raise Failure(f"Python model file not found in '{path}'")
    if package:
        init = file.parent / "__init__.py"
        _execute(package, init if init.is_file() else None, [str(file.parent)])
    module = _execute(f"{package}.{file.stem}" if package else file.stem, file)
    sys.modules["model"] = module
    return module


def _execute(name: str, file: Any, package_path: list[str] | None = None) -> Any:
    """The module of that name, from that file (None: a package that has none)."""
    import importlib.machinery
    import importlib.util

    from .fresh_source import FreshSource

    if file is None:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = package_path
    else:
        found = importlib.util.spec_from_file_location(name, file, submodule_search_locations=package_path)
        if found is None or found.loader is None:
            raise Failure(f"'{file}' is no Python file")
        spec = found
        if type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = FreshSource(name, str(file))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        if spec.loader is not None:
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_own(error: BaseException) -> bool:
    """Whether it was raised by this package about the model's answer, and not from within the model."""
    innermost = error.__traceback__
    while innermost is not None:
        if not innermost.tb_frame.f_globals.get("__name__", "").startswith("conch_stub"):
            return False
        innermost = innermost.tb_next
    return True


def _die_with_parent(parent: int) -> None:
    """Be killed when the server is, even amid a model's work (Linux; elsewhere the closed socket says so)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def _serve(control: socket.socket, host: ModelHost) -> None:
    messages: list[Any] = []
    reader = protocol.FrameReader(messages.append)
    buffer = memoryview(bytearray(_READ_BYTES))
    while True:
        size = control.recv_into(buffer)
        if not size:
            return
        reader.feed(buffer[:size])
        if messages:
            message = messages.pop()
            answer = host.answer(message)
            del message
            control.sendall(protocol.encode(answer))
            del answer


def run() -> None:
    """Entry point. Arguments: the parent's pid, descriptors (control, calls, checks, files, inputs, outputs), the
    directory of the version, the file of the model's class, and the directories it may import from."""
    parent, control_fd, calls_fd, checks_fd, files_fd, *files = (int(argument) for argument in sys.argv[1:8])
    version_directory, code, *import_paths = sys.argv[8:]
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    for descriptor in (control_fd, calls_fd, checks_fd, files_fd, *files):
        os.set_inheritable(descriptor, False)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = [""]
    stub_directory = sys.path.pop()
    sys.path += [*import_paths, stub_directory]
    from . import calls

    control = socket.socket(fileno=control_fd)
    calls.connect(socket.socket(fileno=calls_fd))
    sockets = socket.socket(fileno=checks_fd), socket.socket(fileno=files_fd)
    host = ModelHost(version_directory, code, sockets, files)
    with contextlib.suppress(ConnectionError):  # a server that was killed
        _serve(control, host)
    # The interpreter now ends as any other, with the model's atexit functions; threads it left may not hold it up.
    last_resort = threading.Timer(_EXIT_SECONDS, os._exit, (1,))
    last_resort.daemon = True
    last_resort.start()
