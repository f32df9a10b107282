"""How a text is to be written: OpenAI's parameters as those of the model, and the ones that cannot be honoured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from conch.config.schema import ModelConfig
from conch.inference import Parameter
from conch.wire.openai.errors import RefusedError
from conch.wire.openai.requests import ChatRequest, CompletionRequest, TextRequest

#: Most texts that `stop` may hold, as at OpenAI.
_MAX_STOPS = 4
_MOST_TOKENS = 2**31 - 1
_NONE: Mapping[str, Mapping[str, Parameter]] = {}
_LARGEST_SEED = 2**63 - 1
#: Most alternatives that are told of a token: in conversations, and of prompts, as at OpenAI.
_MOST_TOP_LOGPROBS, _MOST_LOGPROBS = 20, 5


def check_offered(request: TextRequest) -> None:
    """Refuse what no model here does.

    Raises:
        RefusedError: names the first field that asks for it.
    """
    if request.logit_bias:
        raise RefusedError("logit_bias", "'logit_bias' is not supported")
    if request.n not in (None, 1):
        raise RefusedError("n", f"'n' must be 1, got {request.n}: send a request for each text")
    if request.stream_options is not None and not request.stream:
        raise RefusedError("stream_options", "'stream_options' needs 'stream': true")
    if isinstance(request, ChatRequest):
        _check_chat(request)
    else:
        _check_completion(request)


def _check_chat(request: ChatRequest) -> None:
    if request.top_logprobs and not request.logprobs:
        raise RefusedError("top_logprobs", "'top_logprobs' needs 'logprobs': true")


def _check_completion(request: CompletionRequest) -> None:
    if request.best_of not in (None, 1):
        raise RefusedError("best_of", f"'best_of' must be 1, got {request.best_of}")
    if request.echo:
        raise RefusedError("echo", "'echo' is not supported: put the prompt in front of the answer yourself")
    if request.suffix:
        raise RefusedError("suffix", "'suffix' is not supported")


def stops_of(request: TextRequest) -> Sequence[str]:
    """The texts that end the answer.

    Raises:
        RefusedError: too many of them, or an empty one.
    """
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if len(stops) > _MAX_STOPS:
        raise RefusedError("stop", f"'stop' may hold {_MAX_STOPS} texts, got {len(stops)}")
    if not all(stops):
        raise RefusedError("stop", "'stop' must not hold an empty text")
    return stops


def top_logprobs(request: TextRequest) -> int | None:
    """How many alternatives are told with the likelihood of each token; None for no likelihoods.

    Raises:
        RefusedError: they are too many.
    """
    if isinstance(request, ChatRequest):
        if not request.logprobs:
            return None
        return int(_within("top_logprobs", request.top_logprobs or 0, 0, _MOST_TOP_LOGPROBS))
    return None if request.logprobs is None else int(_within("logprobs", request.logprobs, 0, _MOST_LOGPROBS))


def model_parameters(
    request: TextRequest,
    config: ModelConfig,
    default_max_tokens: int,
    further: Mapping[str, Mapping[str, Parameter]] = _NONE,
) -> dict[str, Parameter]:
    """The request parameters for a model.

    Args:
        further: field of the request -> the parameters it asks for, beside those of sampling.

    Raises:
        RefusedError: a value that is out of range, or that the model has no parameter for.
    """
    wanted: dict[str, Mapping[str, Parameter]] = dict(further)
    if (count := top_logprobs(request)) is not None:
        wanted["logprobs"] = {"logprobs": count}
    name, most = _max_tokens(request)
    limit = default_max_tokens if most is None else most
    wanted[name] = {"max_new_tokens": limit}
    if request.min_tokens:
        least = _within("min_tokens", request.min_tokens, 0, limit)
        wanted["min_tokens"] = {"min_new_tokens": int(least)}
    if request.temperature is not None:
        temperature = _within("temperature", request.temperature, 0, 2)
        drawn: dict[str, Parameter] = {"do_sample": True, "temperature": float(temperature)}
        wanted["temperature"] = drawn if temperature else {"do_sample": False}
    if request.top_p is not None:
        top_p = float(_within("top_p", request.top_p, 0, 1))
        if not top_p:
            raise RefusedError("top_p", "'top_p' must be above 0")
        # Who asks for temperature 0 wants the likeliest tokens, of which top_p takes none away.
        if request.temperature != 0:
            wanted["top_p"] = {"do_sample": True, "top_p": top_p}
    for penalty in ("presence_penalty", "frequency_penalty"):
        if value := getattr(request, penalty):
            wanted[penalty] = {penalty: float(_within(penalty, value, -2, 2))}
    if request.seed is not None:
        wanted["seed"] = {"seed": int(_within("seed", request.seed, 0, _LARGEST_SEED))}
    if request.ignore_eos:
        wanted["ignore_eos"] = {"ignore_eos": True}
    if stops := stops_of(request):
        wanted["stop"] = {"stop_sequence": json.dumps(stops, ensure_ascii=False)}
    known = known_parameters(config)
    for field, parameters in wanted.items():
        if known is not None and (missing := sorted(parameters.keys() - known)):
            raise RefusedError(
                field, f"'{field}' is not supported by model '{config.name}': it has no request parameter {missing[0]}"
            )
    return {key: value for parameters in wanted.values() for key, value in parameters.items()}


def known_parameters(config: ModelConfig) -> frozenset[str] | None:
    """The request parameters that a model says it takes (`<name>:<kind> ...`); None where it does not say."""
    text = config.parameters.get("request_parameters")
    return None if text is None else frozenset(item.partition(":")[0] for item in text.split())


def _max_tokens(request: TextRequest) -> tuple[str, int | None]:
    name = "max_tokens"
    most = request.max_tokens
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        name, most = "max_completion_tokens", request.max_completion_tokens
    if most is not None:
        _within(name, most, 1, _MOST_TOKENS)
    return name, most


def _within(name: str, value: float, least: float, most: Parameter) -> float:
    assert not isinstance(most, str)
    if not least <= value <= most:
        raise RefusedError(name, f"'{name}' must be from {least} to {most}, got {value:g}")
    return value
