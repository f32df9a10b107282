"""`conch.Serve`: Python functions as models over HTTP and gRPC, without a repository; in the shape of PyTriton."""

from __future__ import annotations

import atexit
import json
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from conch.backends.function import NAME, FunctionBackend, ModelFunction
from conch.errors import InvalidArgumentError, UnavailableError
from conch.inprocess.binding import ModelConfig, Tensor, model_config
from conch.inprocess.running import RunningServer
from conch.inprocess.server import Repositories, serve_options


class Serve:
    """A server for functions, and for the models of repositories where some are given.

    As a context manager it starts at once and stops at the end. Functions run in threads of this process.

    Args:
        options: flags of `conch serve` with underscores, e.g. `http_port=8000`; port 0 lets the system choose.
    """

    def __init__(self, model_repository: Repositories = (), **options: Any) -> None:
        self._options = serve_options(model_repository, {"model_control_mode": "explicit", **options})
        self._backend = FunctionBackend()
        self._configs: dict[str, str] = {}
        self._running: RunningServer | None = None
        self._stopped = threading.Event()

    def bind(
        self,
        model_name: str,
        infer_func: Callable[..., Any] | Sequence[Callable[..., Any]],
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        config: ModelConfig | None = None,
    ) -> None:
        """Serve a function as a model; of a running server at once, else from its start on.

        Args:
            infer_func: takes a list of requests (`conch.Request`) and returns a list with the answer to each; with
                `@conch.batch` it takes and returns arrays. Several functions are instances that run in parallel.

        Raises:
            ConchError: the name is taken, or what is said of the function makes no model; the text says why.
        """
        functions: Sequence[ModelFunction] = (infer_func,) if callable(infer_func) else tuple(infer_func)
        if not functions:
            raise InvalidArgumentError(f"model '{model_name}' needs at least one function")
        if model_name in self._configs:
            raise InvalidArgumentError(f"model '{model_name}' is bound already")
        document = model_config(model_name, inputs, outputs, config or ModelConfig(), len(functions))
        self._backend.functions[model_name] = functions
        self._configs[model_name] = json.dumps(document)
        if self._running is not None:
            try:
                self._load(self._running, model_name)
            except BaseException:
                del self._configs[model_name], self._backend.functions[model_name]
                raise

    def run(self) -> None:
        """Start, and return once every function answers. Does nothing where it runs already.

        Raises:
            ConchError: a port is taken, or a model does not load.
        """
        if self._running is not None:
            return
        self._stopped.clear()
        running = self._running = RunningServer(self._options, listen=True, backends={NAME: self._backend})
        atexit.register(self.stop)
        try:
            for name in self._configs:
                self._load(running, name)
        except BaseException:
            self.stop()
            raise

    def serve(self) -> None:
        """Start where it does not run yet, and serve until SIGINT, SIGTERM, or `stop` in another thread."""
        self.run()
        former: dict[signal.Signals, Any] = {}

        def stop(number: int, frame: FrameType | None) -> None:
            self._stopped.set()

        in_main_thread = threading.current_thread() is threading.main_thread()
        for number in (signal.SIGINT, signal.SIGTERM) if in_main_thread else ():
            former[number] = signal.signal(number, stop)
        try:
            self._stopped.wait()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
            self.stop()

    def stop(self) -> None:
        """Answer what is in flight and free ports and threads. Does nothing where it does not run."""
        running, self._running = self._running, None
        if running is not None:
            atexit.unregister(self.stop)
            running.stop()
        self._stopped.set()

    @property
    def http_port(self) -> int:
        """The port that HTTP is served on."""
        return self._require_running().port("HTTPService")

    @property
    def grpc_port(self) -> int:
        """The port that gRPC is served on."""
        return self._require_running().port("GRPCInferenceService")

    @property
    def metrics_port(self) -> int:
        """The port of the metrics page."""
        return self._require_running().port("Metrics Service")

    def __enter__(self) -> Serve:
        self.run()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _load(self, running: RunningServer, name: str) -> None:
        # No repository has it: its configuration and an empty version directory are all there is to load.
        running.thread.run(running.core.load_model(name, self._configs[name], {"1/function": b""}))

    def _require_running(self) -> RunningServer:
        if self._running is None:
            raise UnavailableError("the server does not run: call run(), or use it as a context manager")
        return self._running
