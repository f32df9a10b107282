"""What `conch serve` was asked for: the flags of tritonserver as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conch.config.cache_options import CacheOptions, LocalCacheOptions
from conch.config.metrics_options import MetricsOptions
from conch.config.rate_limits import ResourceKey
from conch.config.restrictions import Restriction
from conch.config.trace_options import TraceOptions

#: Largest HTTP body, also after decompression, unless `--http-max-input-size` says otherwise.
DEFAULT_MAX_INPUT_BYTES = 64 * 1024 * 1024


#: What SageMaker's model is called where nobody named it; no model answers to it.
UNSPECIFIED_SAGEMAKER_MODEL = "unspecified_SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"


#: Where SageMaker unpacks models.
DEFAULT_SAGEMAKER_MODEL_ROOT = "/opt/ml/models"


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is the flag of that name; units are those of the flag.

    Attributes:
        model_repository: at least one directory or URL.
        repository_cache_directory: where models of URLs are copied to; "" for the user's cache.
        model_namespacing: whether repositories may have models of the same name.
        load_model: with model_control_mode "explicit": models to load at the start, ("*",) for all.
        metrics_address: "" for the HTTP address.
        backend_directory: holds Python-based backends, `<name>/model.py`; "" for none.
        backend_config: backend name -> setting -> value; settings given without a backend are under "".
        cache_config: the response cache, for the models that ask for one.
        trace_config: which requests are traced, and where to.
        rate_limit_resource: what the instances share, with rate_limit "execution_count"; empty for as much as needed.
        http_max_input_size: bytes.
        grpc_keepalive_time: milliseconds, as are all gRPC times.
        grpc_max_connection_age: 0 for no limit.
        grpc_max_connection_age_grace: 0 for no limit.
        http_header_forward_pattern: "" forwards nothing.
        http_restricted_api: category -> the header that opens it; grpc_restricted_protocol likewise.
        api_key_file: file of the keys of which clients have to present one; "" for no such rule.
        sagemaker_model_root: the directory below which SageMaker's requests may load models.
        sagemaker_default_model: the model of SageMaker's `/invocations`.
        vertex_ai_default_model: "" for the only model there is.
        openai_address: "" for the HTTP address.
        openai_default_max_tokens: tokens of an answer where the request does not say.
        openai_tool_call_parser: how models write calls of functions that do not say it; "" for unknown.
        openai_restricted_api: as http_restricted_api.
    """

    model_repository: tuple[str, ...] = ()
    repository_cache_directory: str = ""
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
    model_namespacing: bool = False

    allow_http: bool = True
    http_address: str = "0.0.0.0"
    http_port: int = 8000
    reuse_http_port: bool = False
    http_header_forward_pattern: str = ""
    http_max_input_size: int = DEFAULT_MAX_INPUT_BYTES
    http_use_ssl: bool = False
    http_use_ssl_mutual: bool = False
    http_server_cert: str = ""
    http_server_key: str = ""
    http_root_cert: str = ""
    http_restricted_api: Mapping[str, Restriction] = {}

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
    grpc_restricted_protocol: Mapping[str, Restriction] = {}
    grpc_infer_response_compression_level: str = "none"
    grpc_keepalive_time: int = 7_200_000
    grpc_keepalive_timeout: int = 20_000
    grpc_keepalive_permit_without_calls: bool = False
    grpc_http2_max_pings_without_data: int = 2
    grpc_http2_min_recv_ping_interval_without_data: int = 300_000
    grpc_http2_max_ping_strikes: int = 2
    grpc_max_connection_age: int = 0
    grpc_max_connection_age_grace: int = 0

    api_key_file: str = ""
    allow_client_shm: bool = True

    allow_sagemaker: bool = False
    sagemaker_port: int = 8080
    sagemaker_safe_port_range: str = ""
    sagemaker_model_root: str = DEFAULT_SAGEMAKER_MODEL_ROOT
    sagemaker_default_model: str = UNSPECIFIED_SAGEMAKER_MODEL
    allow_vertex_ai: bool = False
    vertex_ai_port: int = 8080
    vertex_ai_default_model: str = ""
    vertex_ai_health_route: str = ""
    vertex_ai_predict_route: str = ""

    allow_openai: bool = False
    openai_address: str = ""
    openai_port: int = 9000
    openai_default_max_tokens: int = 16
    openai_tool_call_parser: str = ""
    openai_restricted_api: Mapping[str, Restriction] = {}

    allow_metrics: bool = True
    allow_cpu_metrics: bool = True
    allow_gpu_metrics: bool = True
    metrics_address: str = ""
    metrics_port: int = 8002
    metrics_config: MetricsOptions = MetricsOptions()

    log_verbose: int = 0
    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_format: str = "default"
    log_file: str = ""

    rate_limit: str = "off"
    rate_limit_resource: Mapping[ResourceKey, int] = {}

    backend_directory: str = ""
    backend_config: Mapping[str, Mapping[str, str]] = {}
    cache_config: CacheOptions = LocalCacheOptions()
    trace_config: TraceOptions = TraceOptions()
