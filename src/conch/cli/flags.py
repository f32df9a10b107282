"""The flags of `conch serve` in one table: all of tritonserver's, and what conch does with each."""

from __future__ import annotations

import enum

import msgspec

from conch.config.restrictions import CATEGORIES
from conch.config.serve_options import DEFAULT_MAX_INPUT_BYTES, DEFAULT_SAGEMAKER_MODEL_ROOT

#: What a flag's value can be.
Value = bool | int | float | str


class Kind(enum.Enum):
    """How a flag's text is read. SETTING is `[<name>,]<key>=<value>`."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    FLOAT = "float"
    STRING = "string"
    PATH = "path"
    SETTING = "setting"


class Use(enum.Enum):
    """What conch does with a flag."""

    IMPLEMENTED = "implemented"
    IGNORED = "ignored"
    DEPRECATED = "deprecated"


class Flag(msgspec.Struct, frozen=True):
    """One flag.

    Attributes:
        name: without the dashes.
        default: what holds when it is not given.
        help: what it does; for IGNORED flags, why it has no effect here.
        choices: the only values allowed; empty for any.
        repeatable: may be given several times.
    """

    name: str
    group: str
    kind: Kind
    default: Value
    help: str
    use: Use = Use.IMPLEMENTED
    choices: tuple[str, ...] = ()
    repeatable: bool = False


_SERVER = "Server"
_REPOSITORY = "Model repository"
_HTTP = "HTTP"
_GRPC = "gRPC"
_ACCESS = "Access"
_PLATFORMS = "Platforms"
_OPENAI = "OpenAI"
_LOGGING = "Logging"
_METRICS = "Metrics"
_TRACE = "Tracing"
_BACKENDS = "Backends"
_CACHE = "Response cache"
_DEVICES = "Memory and devices"
_DEPRECATED = "Deprecated"

_B, _I, _F, _S, _P, _K = Kind.BOOLEAN, Kind.INTEGER, Kind.FLOAT, Kind.STRING, Kind.PATH, Kind.SETTING
_IGN, _OLD = Use.IGNORED, Use.DEPRECATED

_ONE_LOOP = "one event loop serves all connections"
_NO_LIBRARIES = "there are no shared libraries to search; engines are Python packages"
_NO_POOL = "there is no memory pool to size"
_CATEGORIES = "there are " + ", ".join(CATEGORIES)
_TRACING = "use --trace-config"

FLAGS: tuple[Flag, ...] = (
    Flag("id", _SERVER, _S, "triton", "name of the server in its metadata"),
    Flag("exit-timeout-secs", _SERVER, _I, 30, "seconds to wait for in-flight requests when stopping"),
    Flag("model-repository", _REPOSITORY, _P, "", "directory of models, or s3://, gs://, as:// or hf:// (a checkpoint "
         "of the HuggingFace hub); needed at least once", repeatable=True),
    Flag("model-store", _REPOSITORY, _P, "", "same as --model-repository", repeatable=True),
    Flag("repository-cache-directory", _REPOSITORY, _P, "", "where models of URLs are copied or deployed to; "
         "conch/repositories in the user's cache when empty"),
    Flag("exit-on-error", _REPOSITORY, _B, True, "exit when a model fails to load at the start"),
    Flag("disable-auto-complete-config", _REPOSITORY, _B, False, "do not complete configurations from the models"),
    Flag("strict-readiness", _REPOSITORY, _B, True, "the server is ready only when all its models are"),
    Flag("model-control-mode", _REPOSITORY, _S, "none", "who decides what is loaded",
         choices=("none", "poll", "explicit")),
    Flag("repository-poll-secs", _REPOSITORY, _I, 15, "seconds between two looks with --model-control-mode=poll"),
    Flag("load-model", _REPOSITORY, _S, "", "load it at the start in explicit mode; * for all", repeatable=True),
    Flag("model-config-name", _REPOSITORY, _S, "", "prefer configs/<name>.pbtxt to config.pbtxt"),
    Flag("model-load-thread-count", _REPOSITORY, _I, 4, "models loaded at the same time"),
    Flag("model-load-retry-count", _REPOSITORY, _I, 0, "how often a failed load is tried again"),
    Flag("model-namespacing", _REPOSITORY, _B, False, "repositories may have models of the same name; each is a "
         "namespace"),
    Flag("enable-peer-access", _REPOSITORY, _B, True, "copies between GPUs are the engines' own", _IGN),
    Flag("repoagent-directory", _REPOSITORY, _P, "", "repository agents are not available", _IGN),
    Flag("allow-http", _HTTP, _B, True, "listen for HTTP"),
    Flag("http-address", _HTTP, _S, "0.0.0.0", "address to listen on"),
    Flag("http-port", _HTTP, _I, 8000, "port to listen on"),
    Flag("reuse-http-port", _HTTP, _B, False, "let several servers share the port"),
    Flag("http-header-forward-pattern", _HTTP, _S, "", "headers that match become request parameters"),
    Flag("http-max-input-size", _HTTP, _I, DEFAULT_MAX_INPUT_BYTES, "largest request body in bytes, decompressed too"),
    Flag("http-thread-count", _HTTP, _I, 8, _ONE_LOOP, _IGN),
    Flag("http-use-ssl", _HTTP, _B, False, "serve with TLS (tritonserver has no TLS on HTTP)"),
    Flag("http-use-ssl-mutual", _HTTP, _B, False, "serve with TLS and demand certificates of clients"),
    Flag("http-server-cert", _HTTP, _S, "", "PEM file of the server's certificate"),
    Flag("http-server-key", _HTTP, _S, "", "PEM file of the server's key"),
    Flag("http-root-cert", _HTTP, _S, "", "PEM file of the root certificate that clients are checked against"),
    Flag("http-restricted-api", _HTTP, _K, "", "<api>[,<api>...]:<key>=<value>: calls of these APIs need that header; "
         + _CATEGORIES, repeatable=True),
    Flag("allow-grpc", _GRPC, _B, True, "listen for gRPC"),
    Flag("grpc-address", _GRPC, _S, "0.0.0.0", "address to listen on"),
    Flag("grpc-port", _GRPC, _I, 8001, "port to listen on"),
    Flag("reuse-grpc-port", _GRPC, _B, False, "let several servers share the port"),
    Flag("grpc-header-forward-pattern", _GRPC, _S, "", "metadata that matches becomes request parameters"),
    Flag("grpc-use-ssl", _GRPC, _B, False, "serve with TLS"),
    Flag("grpc-use-ssl-mutual", _GRPC, _B, False, "serve with TLS and demand certificates of clients"),
    Flag("grpc-server-cert", _GRPC, _S, "", "PEM file of the server's certificate"),
    Flag("grpc-server-key", _GRPC, _S, "", "PEM file of the server's key"),
    Flag("grpc-root-cert", _GRPC, _S, "", "PEM file of the root certificate that clients are checked against"),
    Flag("grpc-infer-response-compression-level", _GRPC, _S, "none", "compression of inference responses",
         choices=("none", "low", "medium", "high")),
    Flag("grpc-keepalive-time", _GRPC, _I, 7_200_000, "milliseconds between keepalive pings"),
    Flag("grpc-keepalive-timeout", _GRPC, _I, 20_000, "milliseconds to wait for the answer to one"),
    Flag("grpc-keepalive-permit-without-calls", _GRPC, _B, False, "ping connections without calls too"),
    Flag("grpc-http2-max-pings-without-data", _GRPC, _I, 2, "pings in a row without data between them; 0 for no limit"),
    Flag("grpc-http2-min-recv-ping-interval-without-data", _GRPC, _I, 300_000, "milliseconds between a client's pings"),
    Flag("grpc-http2-max-ping-strikes", _GRPC, _I, 2, "bad pings before a connection is closed; 0 for no limit"),
    Flag("grpc-max-connection-age", _GRPC, _I, 0, "milliseconds a connection may live; 0 for no limit"),
    Flag("grpc-max-connection-age-grace", _GRPC, _I, 0, "milliseconds its calls have to end then; 0 for no limit"),
    Flag("grpc-infer-thread-count", _GRPC, _I, 2, _ONE_LOOP, _IGN),
    Flag("grpc-infer-allocation-pool-size", _GRPC, _I, 8, "requests are not pooled", _IGN),
    Flag("grpc-max-response-pool-size", _GRPC, _I, 2**31 - 1, "responses are not pooled", _IGN),
    Flag("grpc-restricted-protocol", _GRPC, _K, "", "<protocol>[,<protocol>...]:<key>=<value>: calls of these need the "
         "metadata triton-grpc-protocol-<key>; " + _CATEGORIES, repeatable=True),
    Flag("api-key-file", _ACCESS, _S, "", "file of API keys, one a line, read again when it changes: requests need "
         "one as 'Authorization: Bearer <key>' or 'X-API-Key: <key>', over HTTP and gRPC; health checks do not"),
    Flag("allow-client-shm", _ACCESS, _B, True, "let clients register shared memory regions"),
    Flag("allow-metrics", _METRICS, _B, True, "serve Prometheus metrics"),
    Flag("allow-cpu-metrics", _METRICS, _B, True, "CPU and memory metrics among them"),
    Flag("metrics-address", _METRICS, _S, "", "address to listen on; that of HTTP when empty"),
    Flag("metrics-port", _METRICS, _I, 8002, "port to listen on"),
    Flag("allow-gpu-metrics", _METRICS, _B, True, "metrics of GPUs, where there are any (needs conch[gpu])"),
    Flag("metrics-interval-ms", _METRICS, _F, 2000.0, "metrics are computed when they are read", _IGN),
    Flag("metrics-config", _METRICS, _K, "",
         "<setting>=<value>: counter_latencies=false, summary_latencies=true, histogram_latencies=true, or "
         "summary_quantiles=<quantile>:<error>[,...]; see the page on metrics", repeatable=True),
    Flag("allow-sagemaker", _PLATFORMS, _B, False, "listen for Amazon SageMaker: /ping, and /invocations of the model "
         "that SAGEMAKER_TRITON_DEFAULT_MODEL_NAME names"),
    Flag("sagemaker-port", _PLATFORMS, _I, 8080, "port to listen on for SageMaker"),
    Flag("sagemaker-safe-port-range", _PLATFORMS, _S, "", "<first>-<last>: refuse other ports for the other protocols"),
    Flag("sagemaker-model-root", _PLATFORMS, _P, DEFAULT_SAGEMAKER_MODEL_ROOT, "directory below which requests of "
         "SageMaker's endpoints of several models may load models, with --model-control-mode=explicit"),
    Flag("sagemaker-thread-count", _PLATFORMS, _I, 8, _ONE_LOOP, _IGN),
    Flag("allow-vertex-ai", _PLATFORMS, _B, False, "listen for Google Vertex AI at AIP_HEALTH_ROUTE and "
         "AIP_PREDICT_ROUTE; true when AIP_MODE is PREDICTION"),
    Flag("vertex-ai-port", _PLATFORMS, _I, 8080, "port to listen on for Vertex AI; AIP_HTTP_PORT where that is set"),
    Flag("vertex-ai-thread-count", _PLATFORMS, _I, 8, _ONE_LOOP, _IGN),
    Flag("vertex-ai-default-model", _PLATFORMS, _S, "", "model of predictions; the only one there is when empty"),
    Flag("allow-openai", _OPENAI, _B, False, "listen for clients of OpenAI; true when --openai-port is given"),
    Flag("openai-address", _OPENAI, _S, "", "address to listen on; that of HTTP when empty"),
    Flag("openai-port", _OPENAI, _I, 9000, "port to listen on; with TLS where HTTP has it"),
    Flag("openai-default-max-tokens", _OPENAI, _I, 16, "tokens of an answer where the request does not say"),
    Flag("openai-tool-call-parser", _OPENAI, _S, "", "how models write calls of functions, where they do not say it",
         choices=("hermes", "llama3", "mistral")),
    Flag("openai-restricted-api", _OPENAI, _K, "", "<api>[,<api>...]:<key>=<value>: calls of these APIs need that "
         "header; there are inference, metadata (models), model-repository (load, unload) and health", repeatable=True),
    Flag("log-verbose", _LOGGING, _I, 0, "verbose level; 0 for none"),
    Flag("log-info", _LOGGING, _B, True, "log information"),
    Flag("log-warning", _LOGGING, _B, True, "log warnings"),
    Flag("log-error", _LOGGING, _B, True, "log errors"),
    Flag("log-format", _LOGGING, _S, "default", "format of log lines", choices=("default", "ISO8601", "json")),
    Flag("log-file", _LOGGING, _S, "", "file to log to; the console when empty"),
    Flag("trace-config", _TRACE, _K, "",
         "<setting>=<value> (level, rate, count, mode), triton,<setting>=<value> (file, log-frequency) or "
         "opentelemetry,<setting>=<value> (url, resource, bsp_...)", repeatable=True),
    Flag("backend-config", _BACKENDS, _K, "", "<backend>,<setting>=<value>", repeatable=True),
    Flag("rate-limit", _BACKENDS, _S, "off", "whether instances wait for the resources of their rate_limiter",
         choices=("off", "execution_count")),
    Flag("rate-limit-resource", _BACKENDS, _S, "",
         "<name>:<count>[:<device>]; as much as the neediest instance needs when none is given", repeatable=True),
    Flag("backend-directory", _BACKENDS, _P, "", "directory of Python-based backends: <backend>/model.py runs the "
         "models that name it; shared libraries in it are not used"),
    Flag("cache-config", _CACHE, _K, "",
         "<cache>,<setting>=<value>[,...] of the cache local or redis; local,size=67108864 when not given, "
         "local,size=0 for no cache", repeatable=True),
    Flag("cache-directory", _CACHE, _P, "", _NO_LIBRARIES, _IGN),
    Flag("pinned-memory-pool-byte-size", _DEVICES, _I, 1 << 28, _NO_POOL, _IGN),
    Flag("cuda-memory-pool-byte-size", _DEVICES, _S, "", _NO_POOL, _IGN, repeatable=True),
    Flag("cuda-virtual-address-size", _DEVICES, _S, "", _NO_POOL, _IGN, repeatable=True),
    Flag("min-supported-compute-capability", _DEVICES, _F, 6.0, "the engines know which GPUs they support", _IGN),
    Flag("buffer-manager-thread-count", _DEVICES, _I, 0, "tensors are not copied by threads", _IGN),
    Flag("host-policy", _DEVICES, _K, "", "there are no host policies", _IGN, repeatable=True),
    Flag("model-load-gpu-limit", _DEVICES, _S, "", "the engines manage GPU memory", _IGN, repeatable=True),
    Flag("strict-model-config", _DEPRECATED, _B, False, "use --disable-auto-complete-config", _OLD),
    Flag("response-cache-byte-size", _DEPRECATED, _I, 0, "use --cache-config=local,size=<bytes>", _OLD),
    Flag("trace-file", _DEPRECATED, _S, "", _TRACING, _OLD),
    Flag("trace-level", _DEPRECATED, _S, "OFF", _TRACING, _OLD, repeatable=True),
    Flag("trace-rate", _DEPRECATED, _I, 1000, _TRACING, _OLD),
    Flag("trace-count", _DEPRECATED, _I, -1, _TRACING, _OLD),
    Flag("trace-log-frequency", _DEPRECATED, _I, 0, _TRACING, _OLD),
)  # fmt: skip
