"""`conch serve`: tritonserver's command line."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from conch.cli.flags import FLAGS, Flag, Kind, Use, Value
from conch.config.cache_options import CacheOptions, parse_cache_config
from conch.config.metrics_options import MetricsOptions, parse_metrics_config
from conch.config.platforms import parse_port_range, platform_flags, with_platforms
from conch.config.rate_limits import ResourceKey, parse_resources
from conch.config.restrictions import Restriction, parse_restrictions
from conch.config.serve_options import ServeOptions
from conch.config.trace_options import TraceOptions, parse_trace_config
from conch.errors import ConchError

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})

#: Flags whose value is a port, a count or a time and so has a smallest sensible value.
_AT_LEAST = {
    "model-load-thread-count": 1,
    "repository-poll-secs": 1,
    "http-max-input-size": 1,
    "openai-default-max-tokens": 1,
}


_NO_ENVIRONMENT: Mapping[str, str] = {}


#: Flags of earlier releases -> what they are called in --trace-config.
OLD_TRACE_FLAGS = {
    "trace-file": "triton,file",
    "trace-level": "level",
    "trace-rate": "rate",
    "trace-count": "count",
    "trace-log-frequency": "triton,log-frequency",
}


class UsageError(Exception):
    """The command line asks for something that cannot be; the text says what to write instead."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every flag of the table, group by group."""
    parser.usage = "conch serve --model-repository=DIRECTORY [flags]"
    groups: dict[str, Any] = {}
    for flag in FLAGS:
        group = groups.get(flag.group)
        if group is None:
            group = groups[flag.group] = parser.add_argument_group(flag.group)
        boolean = flag.kind is Kind.BOOLEAN
        group.add_argument(
            f"--{flag.name}",
            dest=flag.name,
            action="append",
            nargs="?" if boolean else None,
            const="true" if boolean else None,
            metavar=flag.kind.value.upper(),
            help=_help(flag),
        )


def _help(flag: Flag) -> str:
    allowed = f" ({', '.join(flag.choices)})" if flag.choices else ""
    default = "" if flag.default == "" or flag.use is not Use.IMPLEMENTED else f"; default {_show(flag.default)}"
    prefix = "" if flag.use is Use.IMPLEMENTED else f"[{flag.use.value}] "
    return (prefix + flag.help + allowed + default).replace("%", "%%")


def _show(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def run(args: argparse.Namespace) -> int:
    """Start the server; returns its exit code, 2 for a wrong command line."""
    try:
        options, notes = read_options(vars(args), os.environ)
    except UsageError as error:
        print(f"conch serve: error: {error}", file=sys.stderr)
        return 2
    for note in notes:
        print(f"conch serve: note: {note}", file=sys.stderr)
    from conch.serving import serve

    return serve(options)


def read_options(
    given: Mapping[str, Sequence[str] | None], environment: Mapping[str, str] = _NO_ENVIRONMENT
) -> tuple[ServeOptions, list[str]]:
    """The options that flag texts (by flag name, None where not given) amount to, and notes about flags without effect.

    Platforms set some flags through the environment; the command line counts before it.

    Raises:
        UsageError: a value that cannot be read, or no model repository.
    """
    notes: list[str] = []
    fields: dict[str, Any] = {}
    has_repository = bool(given.get("model-repository") or given.get("model-store"))
    from_platform = platform_flags(environment, has_repository)
    for flag in FLAGS:
        texts = given.get(flag.name) or ([from_platform[flag.name]] if flag.name in from_platform else None)
        if not texts:
            continue
        values = [_read(flag, text) for text in texts]
        if flag.use is Use.IMPLEMENTED:
            fields[_field(flag)] = _combine(flag, values, fields.get(_field(flag), ()))
        elif flag.use is Use.IGNORED:
            notes.append(f"--{flag.name} is ignored: {flag.help}")
        elif flag.use is Use.DEPRECATED:
            notes.append(f"--{flag.name} is deprecated: {flag.help}")
            if flag.name == "strict-model-config":
                fields["disable_auto_complete_config"] = values[-1]
            elif flag.name in OLD_TRACE_FLAGS:
                fields["trace_config"] = _old_trace_options(given)
            elif given.get("cache-config"):
                raise UsageError(f"--{flag.name} and --cache-config exclude each other: {flag.help}")
            else:
                fields["cache_config"] = cache_options([f"local,size={values[-1]}"])
    if "openai_port" in fields:
        fields.setdefault("allow_openai", True)
    options = ServeOptions(**fields)
    _check(options)
    try:
        options = with_platforms(options, environment)
    except ConchError as error:
        raise UsageError(error.message) from error
    if options.load_model and options.model_control_mode != "explicit":
        notes.append("--load-model is ignored: it needs --model-control-mode=explicit")
    return options, notes


def _field(flag: Flag) -> str:
    return "model_repository" if flag.name == "model-store" else flag.name.replace("-", "_")


def _combine(flag: Flag, values: Sequence[Value], earlier: Sequence[object]) -> object:
    if flag.name == "backend-config":
        return backend_settings([str(value) for value in values])
    if flag.name == "cache-config":
        return cache_options([str(value) for value in values])
    if flag.name == "rate-limit-resource":
        return rate_limits([str(value) for value in values])
    if flag.name == "trace-config":
        return trace_options([str(value) for value in values])
    if flag.name == "metrics-config":
        return metrics_options([str(value) for value in values])
    if flag.name in ("http-restricted-api", "grpc-restricted-protocol", "openai-restricted-api"):
        return restrictions(flag.name, [str(value) for value in values])
    if flag.kind is Kind.PATH and flag.repeatable:
        return (*earlier, *map(str, values))
    return tuple(values) if flag.repeatable else values[-1]


def _read(flag: Flag, text: str) -> Value:
    value: Value = text
    if flag.kind is Kind.BOOLEAN:
        lowered = text.lower()
        if lowered not in _TRUE | _FALSE:
            raise UsageError(f"--{flag.name} expects true or false, got '{text}'")
        value = lowered in _TRUE
    elif flag.kind in (Kind.INTEGER, Kind.FLOAT):
        try:
            value = int(text) if flag.kind is Kind.INTEGER else float(text)
        except ValueError:
            number = "an integer" if flag.kind is Kind.INTEGER else "a number"
            raise UsageError(f"--{flag.name} expects {number}, got '{text}'") from None
    if flag.choices and text not in flag.choices:
        raise UsageError(f"--{flag.name} expects one of {', '.join(flag.choices)}, got '{text}'")
    smallest = _AT_LEAST.get(flag.name, 0)
    if flag.use is Use.IMPLEMENTED and type(value) is int and value < smallest:
        raise UsageError(f"--{flag.name} expects an integer >= {smallest}, got {value}")
    if flag.name.endswith("-port") and type(value) is int and value > 65535:
        raise UsageError(f"--{flag.name} expects a port (0 to 65535), got {value}")
    return value


def backend_settings(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """`<backend>,<setting>=<value>` texts as backend -> setting -> value; a setting for all backends is under "".

    Raises:
        UsageError: a text of another form.
    """
    settings: dict[str, dict[str, str]] = {}
    for text in texts:
        head, equals, value = text.partition("=")
        backend, comma, setting = head.rpartition(",")
        if not equals or not setting or (comma and not backend):
            raise UsageError(f"--backend-config expects <backend>,<setting>=<value>, got '{text}'")
        settings.setdefault(backend, {})[setting] = value
    return settings


def rate_limits(values: Sequence[str]) -> Mapping[ResourceKey, int]:
    """The resources that instances share.

    Raises:
        UsageError: a value that cannot be read.
    """
    try:
        return parse_resources(values)
    except ConchError as error:
        raise UsageError(error.message) from error


def cache_options(texts: Sequence[str]) -> CacheOptions:
    """The response cache that `--cache-config` texts describe.

    Raises:
        UsageError: they describe none.
    """
    try:
        return parse_cache_config(texts, os.environ)
    except ConchError as error:
        raise UsageError(f"--cache-config: {error.message}") from error


def restrictions(flag: str, texts: Sequence[str]) -> Mapping[str, Restriction]:
    """Category -> the header that opens it.

    Raises:
        UsageError: the texts are none such.
    """
    try:
        return parse_restrictions(texts, flag.rpartition("-")[2])
    except ConchError as error:
        raise UsageError(f"--{flag}: {error.message}") from error


def _old_trace_options(given: Mapping[str, Sequence[str] | None]) -> TraceOptions:
    texts = [f"{setting}={text}" for flag, setting in OLD_TRACE_FLAGS.items() for text in given.get(flag) or ()]
    if given.get("trace-config"):
        raise UsageError("--trace-config and the older --trace-... flags exclude each other: use --trace-config")
    return trace_options(texts)


def trace_options(texts: Sequence[str]) -> TraceOptions:
    """The tracing that `--trace-config` texts describe.

    Raises:
        UsageError: they describe none.
    """
    try:
        return parse_trace_config(texts)
    except ConchError as error:
        raise UsageError(f"--trace-config: {error.message}") from error


def metrics_options(texts: Sequence[str]) -> MetricsOptions:
    """What `--metrics-config` texts say of the metrics page.

    Raises:
        UsageError: they say nothing that makes sense.
    """
    try:
        return parse_metrics_config(texts)
    except ConchError as error:
        raise UsageError(f"--metrics-config: {error.message}") from error


def _check(options: ServeOptions) -> None:
    if not options.model_repository:
        raise UsageError("--model-repository must be given, e.g. conch serve --model-repository=models")
    if "*" in options.load_model and len(options.load_model) > 1:
        raise UsageError("--load-model=* must be the only --load-model")
    if " " in options.model_config_name:
        raise UsageError(f"--model-config-name must not contain spaces, got '{options.model_config_name}'")
    for name in ("http_header_forward_pattern", "grpc_header_forward_pattern"):
        try:
            re.compile(getattr(options, name))
        except re.error as error:
            raise UsageError(f"--{name.replace('_', '-')} is not a regular expression: {error}") from None
    for protocol in ("http", "grpc"):
        _check_tls(options, protocol)
    if not (options.allow_http or options.allow_grpc):
        raise UsageError("--allow-http and --allow-grpc are both false: the server could not be reached")
    _check_ports(options)


def _check_tls(options: ServeOptions, protocol: str) -> None:
    def given(name: str) -> Any:
        return getattr(options, f"{protocol}_{name}")

    if (given("use_ssl") or given("use_ssl_mutual")) and not (given("server_cert") and given("server_key")):
        raise UsageError(f"TLS needs --{protocol}-server-cert and --{protocol}-server-key")
    if given("use_ssl_mutual") and not given("root_cert"):
        raise UsageError(f"--{protocol}-use-ssl-mutual needs --{protocol}-root-cert to check the clients' certificates")


def _check_ports(options: ServeOptions) -> None:
    try:
        safe = parse_port_range(options.sagemaker_safe_port_range) if options.sagemaker_safe_port_range else None
    except ConchError as error:
        raise UsageError(f"--sagemaker-safe-port-range: {error.message}") from error
    used: dict[int, str] = {}
    for protocol in ("http", "grpc", "sagemaker", "vertex-ai", "openai", "metrics"):
        name = protocol.replace("-", "_")
        port: int = getattr(options, f"{name}_port")
        if not getattr(options, f"allow_{name}") or port == 0:
            continue
        if port in used:
            raise UsageError(f"--{protocol}-port and --{used[port]}-port must differ, both are {port}")
        if options.allow_sagemaker and safe is not None and protocol != "sagemaker" and port not in safe:
            raise UsageError(f"--{protocol}-port={port} is not within --sagemaker-safe-port-range={safe[0]}-{safe[-1]}")
        used[port] = protocol
