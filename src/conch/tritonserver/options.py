"""The options of a server as the API calls them, and as conch does."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from conch.config.cache_options import parse_cache_config
from conch.config.rate_limits import parse_resources
from conch.tritonserver.enums import LogFormat, ModelControlMode, RateLimitMode

logger = logging.getLogger("conch.tritonserver")


@dataclass(frozen=True)
class RateLimiterResource:
    """How much there is of a resource on a device."""

    name: str
    count: int
    device: int | None = None


#: Options without effect: what they are about there is not in conch, or belongs to the program.
_WITHOUT_EFFECT = (
    "pinned_memory_pool_size",
    "cuda_memory_pool_sizes",
    "cache_directory",
    "min_supported_compute_capability",
    "buffer_manager_thread_count",
    "enable_peer_access",
    "log_file",
    "metrics",
    "metrics_interval",
    "backend_directory",
    "repo_agent_directory",
    "model_load_device_limits",
    "host_policies",
    "metrics_configuration",
)


@dataclass
class Options:
    """The options of a server; see the [flags](cli.md) of the same meaning.

    Those that have no effect in conch are logged when they are set. Logs go to Python's `logging` under "conch".
    """

    model_repository: str | Sequence[str] = ()
    server_id: str = "triton"
    model_control_mode: ModelControlMode = ModelControlMode.NONE
    startup_models: Sequence[str] = ()
    strict_model_config: bool = False
    rate_limiter_mode: RateLimitMode = RateLimitMode.OFF
    rate_limiter_resources: Sequence[RateLimiterResource] = ()
    pinned_memory_pool_size: int = 1 << 28
    cuda_memory_pool_sizes: Mapping[int, int] = field(default_factory=dict)
    cache_config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cache_directory: str = ""
    min_supported_compute_capability: float = 6.0
    exit_on_error: bool = True
    strict_readiness: bool = True
    exit_timeout: int = 30
    buffer_manager_thread_count: int = 0
    model_load_thread_count: int = 4
    model_load_retry_count: int = 0
    model_namespacing: bool = False
    enable_peer_access: bool = True
    log_file: str | None = None
    log_info: bool = False
    log_warn: bool = False
    log_error: bool = False
    log_format: LogFormat = LogFormat.DEFAULT
    log_verbose: int = 0
    metrics: bool = True
    gpu_metrics: bool = True
    cpu_metrics: bool = True
    metrics_interval: int = 2000
    backend_directory: str = ""
    repo_agent_directory: str = ""
    model_load_device_limits: Sequence[Any] = ()
    backend_configuration: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    host_policies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    metrics_configuration: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def for_conch(self) -> dict[str, Any]:
        """The options of `conch.Server`, without the repositories.

        Raises:
            InvalidArgumentError: a value that cannot be.
        """
        default = Options()
        unused = [each.name for each in fields(self) if getattr(self, each.name) != getattr(default, each.name)]
        for name in unused:
            if name in _WITHOUT_EFFECT:
                logger.warning("option '%s' has no effect", name)
        chosen: dict[str, Any] = {
            "id": self.server_id,
            "model_control_mode": self.model_control_mode.value,
            "load_model": tuple(self.startup_models),
            "disable_auto_complete_config": self.strict_model_config,
            "rate_limit": self.rate_limiter_mode.value,
            "rate_limit_resource": parse_resources([_resource(each) for each in self.rate_limiter_resources]),
            "exit_on_error": self.exit_on_error,
            "strict_readiness": self.strict_readiness,
            "exit_timeout_secs": self.exit_timeout,
            "model_load_thread_count": self.model_load_thread_count,
            "model_load_retry_count": self.model_load_retry_count,
            "model_namespacing": self.model_namespacing,
            "log_format": self.log_format.value,
            "log_verbose": self.log_verbose,
            "allow_cpu_metrics": self.cpu_metrics,
            "allow_gpu_metrics": self.gpu_metrics,
            "backend_config": self.backend_configuration,
        }
        if self.cache_config:
            texts = [f"{name},{key}={value}" for name, each in self.cache_config.items() for key, value in each.items()]
            chosen["cache_config"] = parse_cache_config(texts, {})
        return chosen

    @property
    def repositories(self) -> Sequence[str]:
        """The model repositories."""
        return (self.model_repository,) if isinstance(self.model_repository, str) else tuple(self.model_repository)


def _resource(resource: RateLimiterResource) -> str:
    device = "" if resource.device is None else f":{resource.device}"
    return f"{resource.name}:{resource.count}{device}"
