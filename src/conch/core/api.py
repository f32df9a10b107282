"""What the wires may ask of the server: the facade's surface as plain values and one protocol.

`conch.core.server.InferenceServer` implements it; wire tests use a fake that does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from conch.config.schema import ModelConfig
from conch.core.metrics import Family
from conch.core.tracing import Tracing
from conch.inference import InferRequest, InferResponse


class ServerMetadata(msgspec.Struct, frozen=True):
    """Name, version and extensions, as `GET /v2` tells them."""

    name: str
    version: str
    extensions: tuple[str, ...]


class TensorMetadata(msgspec.Struct, frozen=True):
    """An input or output as model metadata shows it: `shape` starts with -1 where the model batches."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """A model as clients see it; `versions` are those that are ready, ascending."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class ModelIndexEntry(msgspec.Struct, frozen=True):
    """One line of the repository index. `version` and `state` are "" for a model that was never loaded."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


class DurationStat(msgspec.Struct, frozen=True):
    """How often something happened and how long it took in all."""

    count: int
    ns: int


class BatchStat(msgspec.Struct, frozen=True):
    """Executions at one batch size, split by phase."""

    batch_size: int
    compute_input: DurationStat
    compute_infer: DurationStat
    compute_output: DurationStat


class ResponseStat(msgspec.Struct, frozen=True):
    """Responses of one number, counted from 0 in each request, of a decoupled model.

    Attributes:
        compute_infer: time the model took for them, since it began with the request or sent the response before.
        compute_output: time to take them over and hand them on.
        success: those with tensors, compute_infer and compute_output together.
        fail: errors, both times together.
        empty_response: the end and nothing else, or a response without tensors; compute_infer only.
        cancel: those nobody waited for any more.
    """

    compute_infer: DurationStat
    compute_output: DurationStat
    success: DurationStat
    fail: DurationStat
    empty_response: DurationStat
    cancel: DurationStat


class ModelStatistics(msgspec.Struct, frozen=True):
    """Statistics of one model version, field by field as the statistics extension defines them.

    Attributes:
        last_inference: milliseconds since the epoch of the last inference request; 0 for none.
        inference_count: inferences (a request of batch n counts n); answers from the response cache are none.
        execution_count: batches executed, those that failed included.
        inference_stats: keys success, fail, queue, compute_input, compute_infer, compute_output, cache_hit, cache_miss.
            A hit counts as success and in queue, not in compute_*; its time is that of the look-up. The time of a miss
            is that of look-up and insertion.
        response_stats: of decoupled models: the number of a response, counted from "0" in each request -> its
            statistics.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: Mapping[str, DurationStat]
    batch_stats: tuple[BatchStat, ...]
    response_stats: Mapping[str, ResponseStat] = {}


class ModelView(Protocol):
    """What a wire reads of one ready model version to decode a request and encode its response."""

    config: ModelConfig
    version: int

    def label(self, output: str, index: int) -> str:
        """The class label of that index of an output, "" where the model has none."""
        ...


#: What `LogSettings.log_format` may be.
LOG_FORMATS = ("default", "ISO8601", "json")


class LogSettings(msgspec.Struct, frozen=True):
    """The log settings a client can read and (all but `log_file`) change."""

    log_file: str
    log_info: bool
    log_warning: bool
    log_error: bool
    log_verbose_level: int
    log_format: str


class ServerApi(Protocol):
    """The server, as the wires call it. Everything is called on the event loop.

    Attributes:
        tracing: which requests are traced. A wire that traces a request puts the trace into it and ends it.
    """

    tracing: Tracing

    @property
    def custom_metrics(self) -> Iterable[Family]:
        """The metrics that models report of themselves, as they are whenever they are read."""
        ...

    def is_live(self) -> bool: ...

    def is_ready(self) -> bool: ...

    def is_model_ready(self, name: str, version: str) -> bool:
        """Unknown models and versions are simply not ready. `version` "" asks for any version."""
        ...

    async def check_model_ready(self, name: str, version: str) -> bool:
        """As `is_model_ready`, and the model itself is asked, where it has something to say to that."""
        ...

    def metadata(self) -> ServerMetadata: ...

    def model(self, name: str, version: str) -> ModelView:
        """The ready version of that name (`version` "" lets the version policy choose).

        Raises:
            NotFoundError: "Request for unknown model: ..." in Triton's words.
            InvalidArgumentError: `version` is not an integer.
        """
        ...

    def model_metadata(self, name: str, version: str) -> ModelMetadata: ...

    def statistics(self, name: str, version: str) -> Sequence[ModelStatistics]:
        """One model version, all versions of a model (`version` ""), or every model (`name` "")."""
        ...

    def infer(self, request: InferRequest) -> Awaitable[InferResponse]:
        """Validate, schedule and answer one request. Cancelling the awaitable gives the request up.

        Raises (at the call or through the awaitable): ConchError.
        """
        ...

    async def load_model(self, name: str, config: str | None, files: Mapping[str, bytes]) -> None:
        """Load or reload. `config` is a JSON ModelConfig that replaces config.pbtxt; `files` maps repository-relative
        paths to contents and needs `config`."""
        ...

    async def unload_model(self, name: str, unload_dependents: bool) -> None: ...

    async def register_repository(self, location: str, names: Mapping[str, str]) -> None:
        """Add a directory as model repository, of which nothing is loaded; `names` are those that some of its models go
        by (model directory -> name).

        Raises:
            UnsupportedError: models are not controlled by clients.
            NotFoundError: there is no such directory.
            AlreadyExistsError: it is registered, or a name is one that another repository gives.
        """
        ...

    async def unregister_repository(self, location: str) -> None:
        """Returns once no model that was unloaded from it is in use. Raises UnsupportedError, NotFoundError."""
        ...

    def repository_index(self, ready: bool) -> Sequence[ModelIndexEntry]: ...

    def log_settings(self) -> LogSettings: ...

    def update_log_settings(self, changes: Mapping[str, bool | int | str]) -> LogSettings:
        """Raises UnsupportedError for `log_file`, InvalidArgumentError for unknown names or wrong types."""
        ...
