"""`conch.Server`: the server inside a program, in the shape of NVIDIA's `tritonserver` package."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from conch.config.json_format import to_dict
from conch.config.serve_options import ServeOptions
from conch.core.api import ModelIndexEntry
from conch.errors import InvalidArgumentError, UnavailableError
from conch.inprocess.inference import AsyncResponseIterator, InferenceRequest, ResponseIterator
from conch.inprocess.running import RunningServer
from conch.repositories.opening import open_repository
from conch.wire.prometheus import MetricsRenderer

#: One directory or several.
Repositories = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class Server:
    """Models of a repository, served to this program. Its event loop runs in a thread; any thread may call.

    It listens on no port. It logs to Python's `logging` under "conch".

    Args:
        model_repository: one directory or several.
        options: flags of `conch serve` with underscores, e.g. `model_control_mode="explicit"`.

    Raises:
        InvalidArgumentError: an option that there is none of.
    """

    def __init__(self, model_repository: Repositories = (), **options: Any) -> None:
        self._options = serve_options(model_repository, options)
        self._running: RunningServer | None = None

    def start(self) -> Server:
        """Load the models and be ready; returns the server itself.

        Raises:
            ConchError: a model does not load (unless `exit_on_error=False`).
        """
        if self._running is not None:
            raise InvalidArgumentError("the server is running already")
        self._running = RunningServer(self._options, listen=False)
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Answer what is in flight, finalize the models. Does nothing where the server does not run."""
        running, self._running = self._running, None
        if running is not None:
            atexit.unregister(self.stop)
            running.stop()

    def __enter__(self) -> Server:
        return self if self._running is not None else self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def live(self) -> bool:
        """Whether it runs."""
        return self._running is not None

    def ready(self) -> bool:
        """Whether requests will be served."""
        running = self._running
        return running is not None and running.thread.call(running.core.is_ready)

    def metadata(self) -> dict[str, Any]:
        """Name, version and extensions."""
        running = self._require_running()
        return _plain(running.thread.call(running.core.metadata))

    def model(self, name: str, version: int | str = "") -> Model:
        """A model; it need not be loaded yet. `version` "" (or -1) leaves the choice to its version policy."""
        return Model(self, name, "" if version in (-1, "-1") else str(version))

    def models(self, exclude_not_ready: bool = False) -> dict[tuple[str, str], Model]:
        """The models of the repositories by name and version (version "" where none was ever loaded)."""
        entries = self.index(exclude_not_ready)
        return {(entry.name, entry.version): self.model(entry.name, entry.version) for entry in entries}

    def index(self, ready: bool = False) -> Sequence[ModelIndexEntry]:
        """The models of the repositories with their states; `ready` leaves out those that are not."""
        running = self._require_running()
        return running.thread.call(running.core.repository_index, ready)

    def load(self, name: str, parameters: Mapping[str, object] | None = None) -> Model:
        """Load or reload a model; needs `model_control_mode="explicit"`.

        Args:
            parameters: "config": a configuration (JSON text or a mapping) instead of config.pbtxt; "file:1/model.py":
                a file's content instead of the repository's.

        Raises:
            ConchError: it did not load; the text says why.
        """
        config: str | None = None
        files: dict[str, bytes] = {}
        for key, value in (parameters or {}).items():
            if key == "config" and isinstance(value, str | Mapping):
                config = value if isinstance(value, str) else json.dumps(dict(value))
            elif key.startswith("file:") and isinstance(value, bytes):
                files[key.removeprefix("file:")] = value
            else:
                raise InvalidArgumentError(
                    f"load parameter '{key}' must be 'config' (JSON text or a mapping) or 'file:<path>' (bytes), got "
                    f"{type(value).__name__}"
                )
        running = self._require_running()
        running.thread.run(running.core.load_model(name, config, files))
        return self.model(name)

    def unload(self, name: str, unload_dependents: bool = False) -> None:
        """Unload a model once its requests are answered; needs `model_control_mode="explicit"`."""
        running = self._require_running()
        running.thread.run(running.core.unload_model(name, unload_dependents))

    def register_model_repository(
        self, repository_path: str | os.PathLike[str], name_mapping: Mapping[str, str] | None = None
    ) -> None:
        """Add a model repository (a directory or a URL), of which nothing is loaded; needs
        `model_control_mode="explicit"`.

        Args:
            name_mapping: other names for some of its models: name of the directory -> name.

        Raises:
            ConchError: there is none, it is there already, or a name is taken.
        """
        running = self._require_running()
        repository = open_repository(str(repository_path), self._options.repository_cache_directory, os.environ)
        running.thread.run(running.core.add_repository(repository, dict(name_mapping or {})))

    def unregister_model_repository(self, repository_path: str | os.PathLike[str]) -> None:
        """Forget a model repository, once no model that was unloaded from it is in use. What serves goes on."""
        running = self._require_running()
        running.thread.run(running.core.unregister_repository(str(repository_path)))

    def poll_model_repository(self) -> None:
        """Look at the repositories now; needs `model_control_mode="poll"`."""
        running = self._require_running()
        running.thread.run(running.core.poll_repositories())

    def statistics(self, name: str = "", version: str = "") -> list[dict[str, Any]]:
        """What the models have done, as the statistics extension tells it; of all models without a name."""
        running = self._require_running()
        return [_plain(entry) for entry in running.thread.call(running.core.statistics, name, version)]

    def metrics(self) -> str:
        """The metrics page, in Prometheus' text format."""
        running = self._require_running()
        renderer = MetricsRenderer(
            running.core,
            cpu_metrics=self._options.allow_cpu_metrics,
            counter_latencies=self._options.metrics_config.counter_latencies,
            gpus=running.gpus,
        )
        return running.thread.run(renderer.page()).decode()

    def running(self) -> RunningServer:
        """The loop and the core behind it, for what attaches listeners.

        Raises:
            UnavailableError: it does not run.
        """
        return self._require_running()

    def _require_running(self) -> RunningServer:
        if self._running is None:
            raise UnavailableError("the server does not run: call start(), or use it as a context manager")
        return self._running


class Model:
    """One model of a server, by name and version ("" for the version policy's choice). Made by `Server.model`."""

    def __init__(self, server: Server, name: str, version: str) -> None:
        self.server = server
        self.name = name
        self.version = version

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.version!r})"

    def ready(self) -> bool:
        """Whether it can answer."""
        running = self.server._require_running()
        return running.thread.call(running.core.is_model_ready, self.name, self.version)

    def metadata(self) -> dict[str, Any]:
        """Versions, platform, inputs and outputs. Raises NotFoundError for a model that is not loaded."""
        running = self.server._require_running()
        return _plain(running.thread.call(running.core.model_metadata, self.name, self.version))

    def config(self) -> dict[str, Any]:
        """Its complete configuration, with the fields of model_config.proto."""
        running = self.server._require_running()
        return to_dict(running.thread.call(running.core.model, self.name, self.version).config.message)

    def statistics(self) -> list[dict[str, Any]]:
        """What its versions have done."""
        return self.server.statistics(self.name, self.version)

    def create_request(self, **fields: Any) -> InferenceRequest:
        """A request with these fields, to be given to `infer`."""
        return InferenceRequest(**fields)

    def infer(
        self, request: InferenceRequest | None = None, *, raise_on_error: bool = True, **fields: Any
    ) -> ResponseIterator:
        """Send a request (or one of these fields: `infer(inputs={"x": array})`) and iterate over its responses.

        Raises:
            InvalidArgumentError: an input is no tensor. What the server finds wrong is raised by the iterator.
        """
        running = self.server._require_running()
        wanted = (request or InferenceRequest(**fields)).for_model(self.name, self.version)
        return ResponseIterator(running.core, wanted, running.thread.loop, raise_on_error=raise_on_error)

    def async_infer(
        self, request: InferenceRequest | None = None, *, raise_on_error: bool = True, **fields: Any
    ) -> AsyncResponseIterator:
        """As `infer`, for `async for` on the caller's event loop."""
        running = self.server._require_running()
        wanted = (request or InferenceRequest(**fields)).for_model(self.name, self.version)
        return AsyncResponseIterator(running.core, wanted, running.thread.loop, raise_on_error=raise_on_error)


def serve_options(model_repository: Repositories, options: Mapping[str, Any]) -> ServeOptions:
    """The options of a server that a program starts.

    Raises:
        InvalidArgumentError: an option that there is none of, or of another type.
    """
    known = ServeOptions.__struct_fields__
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InvalidArgumentError(f"there is no option {unknown}; options are the flags of conch serve: {list(known)}")
    if isinstance(model_repository, str | os.PathLike):
        model_repository = (model_repository,)
    given = dict(options)
    if isinstance(given.get("load_model"), str):
        given["load_model"] = (given["load_model"],)
    wanted = ServeOptions(model_repository=tuple(map(str, model_repository)), **given)
    for name, value in given.items():
        default = getattr(ServeOptions(), name)
        if type(default) in (bool, int, str) and type(value) is not type(default):
            raise InvalidArgumentError(f"option '{name}' must be {type(default).__name__}, got {value!r}")
    return wanted


def _plain(value: msgspec.Struct) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(value)
    return document
