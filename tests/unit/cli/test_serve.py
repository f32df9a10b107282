from __future__ import annotations

import argparse
import sys
import types
from typing import Any

import pytest

from conch.cli import serve
from conch.cli.flags import FLAGS, Kind, Use
from conch.cli.main import main
from conch.cli.serve import UsageError, backend_settings, read_options
from conch.config.cache_options import DEFAULT_CACHE_BYTES, LocalCacheOptions, RedisCacheOptions
from conch.config.metrics_options import MetricsOptions
from conch.config.restrictions import Restriction
from conch.config.serve_options import ServeOptions

REPOSITORY = "--model-repository=models"


def _read(*arguments: str) -> tuple[ServeOptions, list[str]]:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    serve.add_arguments(parser)
    return read_options(vars(parser.parse_args(arguments)))


def test_defaults_are_those_of_the_table() -> None:
    options = ServeOptions()
    for flag in FLAGS:
        if flag.use is Use.IMPLEMENTED and not flag.repeatable:
            assert getattr(options, flag.name.replace("-", "_")) == flag.default, flag.name


def test_every_option_has_a_flag() -> None:
    fields = set(ServeOptions.__struct_fields__)
    flags = {flag.name.replace("-", "_") for flag in FLAGS if flag.use is Use.IMPLEMENTED} - {"model_store"}
    from_environment = {"sagemaker_default_model", "vertex_ai_health_route", "vertex_ai_predict_route"}
    assert fields == flags | from_environment


def test_a_port_for_openai_opens_it() -> None:
    assert not _read(REPOSITORY)[0].allow_openai
    assert _read(REPOSITORY, "--openai-port=9001")[0].allow_openai
    assert _read(REPOSITORY, "--allow-openai=true")[0].openai_port == 9000
    assert not _read(REPOSITORY, "--openai-port=9001", "--allow-openai=false")[0].allow_openai


def test_no_flag_is_listed_twice() -> None:
    names = [flag.name for flag in FLAGS]
    assert len(names) == len(set(names))


def test_repository_alone_gives_the_defaults() -> None:
    assert _read(REPOSITORY) == (ServeOptions(model_repository=("models",)), [])


def test_repositories_add_up_under_both_names() -> None:
    options, _ = _read("--model-repository", "a", "--model-store=b", "--model-repository=c")
    assert options.model_repository == ("a", "c", "b")


@pytest.mark.parametrize("text", ["true", "1", "TRUE", "on"])
def test_boolean_flags_accept_several_spellings_of_true(text: str) -> None:
    assert _read(REPOSITORY, f"--grpc-keepalive-permit-without-calls={text}")[0].grpc_keepalive_permit_without_calls


@pytest.mark.parametrize("arguments", [["--allow-http=false"], ["--allow-http", "0"], ["--allow-http=False"]])
def test_boolean_flags_can_be_switched_off(arguments: list[str]) -> None:
    assert not _read(REPOSITORY, *arguments)[0].allow_http


def test_boolean_flag_without_a_value_is_true() -> None:
    options, _ = _read("--disable-auto-complete-config", "--model-repository", "m")
    assert options.disable_auto_complete_config
    assert options.model_repository == ("m",)


def test_last_of_several_values_wins() -> None:
    assert _read(REPOSITORY, "--http-port=1", "--http-port", "2")[0].http_port == 2


def test_backend_settings_are_grouped_by_backend() -> None:
    assert backend_settings(["python,a=1", "python,b=x=y,z", "default-max-batch-size=4"]) == {
        "python": {"a": "1", "b": "x=y,z"},
        "": {"default-max-batch-size": "4"},
    }


@pytest.mark.parametrize("text", ["python", "python,a", ",a=1", "=1", "python,=1"])
def test_backend_setting_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--backend-config expects"):
        backend_settings([text])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--model-repository must be given"),
        ([REPOSITORY, "--http-port=x"], "--http-port expects an integer, got 'x'"),
        ([REPOSITORY, "--http-port=-1"], "--http-port expects an integer >= 0, got -1"),
        ([REPOSITORY, "--grpc-port=70000"], "--grpc-port expects a port (0 to 65535), got 70000"),
        ([REPOSITORY, "--metrics-interval-ms=x"], "--metrics-interval-ms expects a number, got 'x'"),
        ([REPOSITORY, "--allow-http=maybe"], "--allow-http expects true or false, got 'maybe'"),
        ([REPOSITORY, "--model-control-mode=auto"], "expects one of none, poll, explicit, got 'auto'"),
        ([REPOSITORY, "--model-load-thread-count=0"], "expects an integer >= 1, got 0"),
        ([REPOSITORY, "--load-model=*", "--load-model=a"], "--load-model=* must be the only --load-model"),
        ([REPOSITORY, "--model-config-name=a b"], "must not contain spaces"),
        ([REPOSITORY, "--http-header-forward-pattern=("], "is not a regular expression"),
        ([REPOSITORY, "--grpc-use-ssl"], "TLS needs --grpc-server-cert and --grpc-server-key"),
        (
            [REPOSITORY, "--grpc-use-ssl-mutual", "--grpc-server-cert=c", "--grpc-server-key=k"],
            "--grpc-use-ssl-mutual needs --grpc-root-cert",
        ),
        ([REPOSITORY, "--allow-http=0", "--allow-grpc=0"], "the server could not be reached"),
        ([REPOSITORY, "--http-port=9", "--grpc-port=9"], "--grpc-port and --http-port must differ, both are 9"),
        ([REPOSITORY, "--rate-limit-resource=R1"], "--rate-limit-resource expects <name>:<count> or"),
        ([REPOSITORY, "--cache-config=local"], "--cache-config: expected <cache name>,<setting>=<value>, got 'local'"),
        ([REPOSITORY, "--response-cache-byte-size=many"], "--response-cache-byte-size expects an integer, got 'many'"),
        (
            [REPOSITORY, "--response-cache-byte-size=5", "--cache-config=local,size=5"],
            "--response-cache-byte-size and --cache-config exclude each other",
        ),
        (
            [REPOSITORY, "--http-restricted-api=health"],
            "--http-restricted-api: expected <api>[,<api>...]:<key>=<value>",
        ),
        ([REPOSITORY, "--http-restricted-api=nope:k=v"], "unknown restricted api 'nope'"),
        ([REPOSITORY, "--grpc-restricted-protocol=nope:k=v"], "unknown restricted protocol 'nope'"),
        (
            [REPOSITORY, "--http-restricted-api=health:k=v", "--http-restricted-api=trace,health:k=v"],
            "restricted api 'health' can not be specified in multiple config groups",
        ),
        ([REPOSITORY, "--http-use-ssl"], "TLS needs --http-server-cert and --http-server-key"),
        (
            [REPOSITORY, "--http-use-ssl-mutual", "--http-server-cert=a", "--http-server-key=b"],
            "--http-use-ssl-mutual needs --http-root-cert",
        ),
        ([REPOSITORY, "--allow-sagemaker", "--sagemaker-port=8000"], "--sagemaker-port and --http-port must differ"),
        (
            [REPOSITORY, "--allow-sagemaker", "--sagemaker-safe-port-range=8000-8001"],
            "--metrics-port=8002 is not within --sagemaker-safe-port-range=8000-8001",
        ),
        (
            [REPOSITORY, "--sagemaker-safe-port-range=x"],
            "--sagemaker-safe-port-range: expected <first>-<last>, got 'x'",
        ),
        ([REPOSITORY, "--sagemaker-safe-port-range=9-8"], "a first port that is not above the last"),
        ([REPOSITORY, "--allow-vertex-ai"], "AIP_PREDICT_ROUTE is not defined for Vertex AI endpoint"),
        ([REPOSITORY, "--trace-level=TIMESTAMPS"], "tracing to files needs a file"),
        ([REPOSITORY, "--trace-config=level=HIGH"], "--trace-config: level must be OFF, TIMESTAMPS or TENSORS"),
        ([REPOSITORY, "--trace-file=x", "--trace-config=rate=1"], "use --trace-config"),
    ],
)
def test_wrong_command_line_says_what_was_expected(arguments: list[str], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        _read(*arguments)
    assert expected in str(caught.value)


def test_older_trace_flags_say_the_same_as_trace_config() -> None:
    older, notes = _read(
        REPOSITORY, *(f"--trace-{text}" for text in ("file=f", "level=TIMESTAMPS", "rate=3", "count=4"))
    )
    settings = ("triton,file=f", "level=TIMESTAMPS", "rate=3", "count=4")
    newer, _ = _read(REPOSITORY, *(f"--trace-config={text}" for text in settings))
    assert older == newer
    assert len(notes) == 4


def test_restrictions_are_kept_by_category() -> None:
    options, _ = _read(REPOSITORY, "--http-restricted-api=health,trace:k=v=w", "--grpc-restricted-protocol=logging:a=b")
    assert options.http_restricted_api == {"health": Restriction("k", "v=w"), "trace": Restriction("k", "v=w")}
    assert options.grpc_restricted_protocol == {"logging": Restriction("a", "b")}


def test_the_metrics_page_is_configured() -> None:
    options, _ = _read(
        REPOSITORY, "--metrics-config=summary_latencies=true", "--metrics-config=counter_latencies=false"
    )
    assert options.metrics_config == MetricsOptions(counter_latencies=False, summary_latencies=True)
    with pytest.raises(UsageError, match="--metrics-config: there is no setting 'nope'"):
        _read(REPOSITORY, "--metrics-config=nope=1")


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag.use is Use.IGNORED], ids=lambda flag: flag.name)
def test_flags_without_effect_are_accepted_with_a_note(flag: Any) -> None:
    text = {Kind.BOOLEAN: "false", Kind.INTEGER: "-1", Kind.FLOAT: "1.5"}.get(flag.kind, "a,b=c")
    options, notes = _read(REPOSITORY, f"--{flag.name}={text}")
    assert options == ServeOptions(model_repository=("models",))
    assert notes == [f"--{flag.name} is ignored: {flag.help}"]


VERTEX = {"AIP_MODE": "PREDICTION", "AIP_PREDICT_ROUTE": "/p", "AIP_HEALTH_ROUTE": "/h"}


def test_vertex_ai_is_switched_on_by_its_environment() -> None:
    options, _ = read_options({}, {**VERTEX, "AIP_HTTP_PORT": "8088", "AIP_STORAGE_URI": "models"})
    assert options.allow_vertex_ai
    assert (options.vertex_ai_port, options.vertex_ai_predict_route, options.vertex_ai_health_route) == (
        8088,
        "/p",
        "/h",
    )
    assert options.model_repository == ("models",)


def test_command_line_counts_before_the_environment() -> None:
    given = {"allow-vertex-ai": ["false"], "vertex-ai-port": ["1"], "model-store": ["mine"]}
    options, _ = read_options(given, {**VERTEX, "AIP_HTTP_PORT": "8088", "AIP_STORAGE_URI": "models"})
    assert not options.allow_vertex_ai
    assert (options.vertex_ai_port, options.model_repository) == (1, ("mine",))


def test_port_of_the_environment_is_checked() -> None:
    with pytest.raises(UsageError, match="--vertex-ai-port expects an integer, got 'abc'"):
        read_options({"model-repository": ["m"]}, {**VERTEX, "AIP_HTTP_PORT": "abc"})


def test_sagemaker_model_comes_from_the_environment() -> None:
    given = {"model-repository": ["m"], "allow-sagemaker": ["true"]}
    options, _ = read_options(given, {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "mine"})
    assert options.sagemaker_default_model == "mine"
    assert read_options(given)[0].sagemaker_default_model == "unspecified_SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"


def test_load_model_outside_explicit_mode_is_noted() -> None:
    _, notes = _read(REPOSITORY, "--load-model=a")
    assert notes == ["--load-model is ignored: it needs --model-control-mode=explicit"]


def test_strict_model_config_is_the_old_name_of_disable_auto_complete_config() -> None:
    options, notes = _read(REPOSITORY, "--strict-model-config=true")
    assert options.disable_auto_complete_config
    assert notes == ["--strict-model-config is deprecated: use --disable-auto-complete-config"]


def test_usage_error_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 2
    assert "conch serve: error: --model-repository must be given" in capsys.readouterr().err


def test_options_reach_the_application(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    served: list[ServeOptions] = []
    application = types.ModuleType("conch.serving")
    vars(application)["serve"] = lambda options: served.append(options) or 7
    monkeypatch.setitem(sys.modules, "conch.serving", application)
    monkeypatch.setattr("conch.serving", application, raising=False)

    assert main(["serve", REPOSITORY, "--id=mine", "--http-thread-count=4"]) == 7
    assert served == [ServeOptions(model_repository=("models",), id="mine")]
    assert "note: --http-thread-count is ignored: one event loop" in capsys.readouterr().err


def test_models_that_ask_for_a_response_cache_get_one_unless_it_is_switched_off() -> None:
    assert _read(REPOSITORY)[0].cache_config == LocalCacheOptions(DEFAULT_CACHE_BYTES)
    assert _read(REPOSITORY, "--cache-config=local,size=0")[0].cache_config == LocalCacheOptions(0)


def test_settings_of_the_response_cache_add_up() -> None:
    options, _ = _read(REPOSITORY, "--cache-config=redis,host=h", "--cache-config", "redis,port=7000")
    assert options.cache_config == RedisCacheOptions("h", port=7000)


def test_the_old_flag_of_the_response_cache_is_honoured_with_a_note() -> None:
    options, notes = _read(REPOSITORY, "--response-cache-byte-size=1024")
    assert options.cache_config == LocalCacheOptions(1024)
    assert notes == ["--response-cache-byte-size is deprecated: use --cache-config=local,size=<bytes>"]


def test_the_cache_directory_is_ignored_with_a_note() -> None:
    [note] = _read(REPOSITORY, "--cache-directory=/opt/tritonserver/caches")[1]
    assert note.startswith("--cache-directory is ignored")
