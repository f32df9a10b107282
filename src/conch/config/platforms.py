"""What serving platforms tell their containers through the environment, as flags and options."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conch.config.serve_options import UNSPECIFIED_SAGEMAKER_MODEL, ServeOptions
from conch.errors import InvalidArgumentError


def platform_flags(environment: Mapping[str, str], has_repository: bool) -> dict[str, str]:
    """The flags (without dashes) that the environment sets where the command line does not.

    Args:
        has_repository: whether the command line names a model repository; `AIP_STORAGE_URI` is one where it does not.
    """
    flags: dict[str, str] = {}
    if environment.get("AIP_MODE") == "PREDICTION":
        flags["allow-vertex-ai"] = "true"
    if "AIP_HTTP_PORT" in environment:
        flags["vertex-ai-port"] = environment["AIP_HTTP_PORT"]
    if "AIP_STORAGE_URI" in environment and not has_repository:
        flags["model-repository"] = environment["AIP_STORAGE_URI"]
    return flags


def with_platforms(options: ServeOptions, environment: Mapping[str, str]) -> ServeOptions:
    """The options with what only the environment can tell.

    Raises:
        InvalidArgumentError: Vertex AI is to be served and its routes are not set.
    """
    if options.allow_sagemaker:
        model = environment.get("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", UNSPECIFIED_SAGEMAKER_MODEL)
        options = msgspec.structs.replace(options, sagemaker_default_model=model)
    if options.allow_vertex_ai:
        for variable in ("AIP_PREDICT_ROUTE", "AIP_HEALTH_ROUTE"):
            if not environment.get(variable):
                raise InvalidArgumentError(
                    f"{variable} is not defined for Vertex AI endpoint: set it in the environment to the path that "
                    "Vertex AI asks, or leave --allow-vertex-ai out"
                )
        options = msgspec.structs.replace(
            options,
            vertex_ai_predict_route=environment["AIP_PREDICT_ROUTE"],
            vertex_ai_health_route=environment["AIP_HEALTH_ROUTE"],
        )
    return options


def parse_port_range(text: str) -> range:
    """The ports of `<first>-<last>`.

    Raises:
        InvalidArgumentError: it is none.
    """
    first, dash, last = text.partition("-")
    if not (dash and first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise InvalidArgumentError(f"expected <first>-<last>, got '{text}'")
    if int(first) > int(last):
        raise InvalidArgumentError(f"expected a first port that is not above the last, got '{text}'")
    return range(int(first), int(last) + 1)
