"""The server as the API has it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from conch.errors import InvalidArgumentError, UnavailableError
from conch.inprocess import server
from conch.inprocess.running import RunningServer
from conch.tritonserver import metrics
from conch.tritonserver.enums import MetricFormat
from conch.tritonserver.model import Model
from conch.tritonserver.options import Options


class ModelDictionary(dict[tuple[str, int], Model]):
    """Models by name and version; a name alone is the model of the version policy's choice."""

    def __init__(self, models: Iterable[Model]) -> None:
        super().__init__({(model.name, model.version): model for model in models})

    def __getitem__(self, key: str | tuple[str, int]) -> Model:
        if isinstance(key, tuple):
            return super().__getitem__(key)
        found = next((model for (name, _), model in self.items() if name == key), None)
        if found is None:
            raise KeyError(f"Unknown Model: {key}")
        return found.of_any_version()


class Server:
    """A server inside the program.

    Args:
        options: or the same as keywords.
    """

    def __init__(self, options: Options | None = None, **fields: Any) -> None:
        self.options = options or Options(**fields)
        self._server: server.Server | None = None

    def start(
        self, wait_until_ready: bool = False, polling_interval: float = 0.1, timeout: float | None = None
    ) -> Server:
        """Load the models and serve.

        Args:
            wait_until_ready: whether to raise when a model did not load; all have been tried when this returns.

        Raises:
            InvalidArgumentError: it runs already, or an option cannot be.
            UnavailableError: it is not ready within `timeout` seconds.
        """
        if self._server is not None:
            raise InvalidArgumentError("Server already started")
        started = server.Server(self.options.repositories, **self.options.for_conch())
        began = time.monotonic()
        started.start()
        self._server = started
        while wait_until_ready and not started.ready():
            if timeout is None or time.monotonic() - began >= timeout:
                raise UnavailableError("Timeout before ready")
            time.sleep(polling_interval)
        return self

    def stop(self) -> None:
        """Answer what is in flight, unload the models."""
        running, self._server = self._server, None
        if running is None:
            raise InvalidArgumentError("Server not started")
        running.stop()

    def live(self) -> bool:
        """Whether it runs."""
        return self._server is not None and self._server.live()

    def ready(self) -> bool:
        """Whether requests will be served."""
        return self._server is not None and self._server.ready()

    def metadata(self) -> dict[str, Any]:
        """Name, version and extensions."""
        return self._started().metadata()

    def model(self, model_name: str, model_version: int = -1) -> Model:
        """A model; it need not be loaded yet."""
        return Model(self._started().model(model_name, model_version), model_version)

    def models(self, exclude_not_ready: bool = False) -> ModelDictionary:
        """The models of the repositories, with their states."""
        running = self._started()
        return ModelDictionary(
            Model(running.model(entry.name, entry.version), int(entry.version or -1), entry.state or None, entry.reason)
            for entry in running.index(exclude_not_ready)
        )

    def load(self, model_name: str, parameters: Mapping[str, Any] | None = None) -> Model:
        """Load or reload a model."""
        self._started().load(model_name, parameters)
        return self.model(model_name)

    def unload(
        self,
        model: str | Model,
        unload_dependents: bool = False,
        wait_until_unloaded: bool = False,
        polling_interval: float = 0.1,
        timeout: float | None = None,
    ) -> None:
        """Unload a model.

        Args:
            wait_until_unloaded: wait until what was in flight has been answered.

        Raises:
            UnavailableError: that took longer than `timeout` seconds.
        """
        name = model if isinstance(model, str) else model.name
        running = self._started()
        running.unload(name, unload_dependents)
        began = time.monotonic()
        while wait_until_unloaded and any(
            entry.name == name and entry.state == "UNLOADING" for entry in running.index(ready=False)
        ):
            if timeout is not None and time.monotonic() - began >= timeout:
                raise UnavailableError("Timeout before model unloaded")
            time.sleep(polling_interval)

    def register_model_repository(self, repository_path: str, name_mapping: Mapping[str, str] | None = None) -> None:
        """Add a model repository."""
        self._started().register_model_repository(repository_path, name_mapping)

    def unregister_model_repository(self, repository_path: str) -> None:
        """Forget a model repository."""
        self._started().unregister_model_repository(repository_path)

    def poll_model_repository(self) -> None:
        """Look at the repositories now."""
        self._started().poll_model_repository()

    def metrics(self, metric_format: MetricFormat = MetricFormat.PROMETHEUS) -> str:
        """The metrics page, with the metrics of the program."""
        return self._started().metrics() + metrics.render()

    def running(self) -> RunningServer:
        """What answers; for frontends."""
        return self._started().running()

    def _started(self) -> server.Server:
        if self._server is None:
            raise InvalidArgumentError("Server not started")
        return self._server
