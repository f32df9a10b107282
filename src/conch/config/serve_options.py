"""What `conch serve` was asked for: the flags of tritonserver as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from conch.config.cache_options import CacheOptions, LocalCacheOptions

#: Largest HTTP body, also after decompression, unless `--http-max-input-size` says otherwise.
DEFAULT_MAX_INPUT_BYTES = 64 * 1024 * 1024


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is the flag of that name; units are those of the flag.

    Attributes:
        model_repository: at least one directory.
        load_model: with model_control_mode "explicit": models to load at the start, ("*",) for all.
        metrics_address: "" for the HTTP address.
        backend_config: backend name -> setting -> value; settings given without a backend are under "".
        cache_config: the response cache, for the models that ask for one.
        http_max_input_size: bytes.
        grpc_keepalive_time: milliseconds, as are all gRPC times.
        grpc_max_connection_age: 0 for no limit.
        grpc_max_connection_age_grace: 0 for no limit.
        http_header_forward_pattern: "" forwards nothing.
    """

    model_repository: tuple[Path, ...] = ()
    id: str = "triton"
    exit_timeout_secs: int = 30

    exit_on_error: bool = True
    disable_auto_complete_config: bool = False
    strict_readiness: bool = True
    model_control_mode: str = "none"
    repository_poll_secs: int = 15
    load_model: tuple[str, ...] = ()
    model_config_name: str = ""
    model_load_thread_count: int = 4
    model_load_retry_count: int = 0

    allow_http: bool = True
    http_address: str = "0.0.0.0"
    http_port: int = 8000
    reuse_http_port: bool = False
    http_header_forward_pattern: str = ""
    http_max_input_size: int = DEFAULT_MAX_INPUT_BYTES

    allow_grpc: bool = True
    grpc_address: str = "0.0.0.0"
    grpc_port: int = 8001
    reuse_grpc_port: bool = False
    grpc_header_forward_pattern: str = ""
    grpc_use_ssl: bool = False
    grpc_use_ssl_mutual: bool = False
    grpc_server_cert: str = ""
    grpc_server_key: str = ""
    grpc_root_cert: str = ""
    grpc_infer_response_compression_level: str = "none"
    grpc_keepalive_time: int = 7_200_000
    grpc_keepalive_timeout: int = 20_000
    grpc_keepalive_permit_without_calls: bool = False
    grpc_http2_max_pings_without_data: int = 2
    grpc_http2_min_recv_ping_interval_without_data: int = 300_000
    grpc_http2_max_ping_strikes: int = 2
    grpc_max_connection_age: int = 0
    grpc_max_connection_age_grace: int = 0

    allow_metrics: bool = True
    allow_cpu_metrics: bool = True
    metrics_address: str = ""
    metrics_port: int = 8002

    log_verbose: int = 0
    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_format: str = "default"
    log_file: str = ""

    backend_config: Mapping[str, Mapping[str, str]] = {}
    cache_config: CacheOptions = LocalCacheOptions()
