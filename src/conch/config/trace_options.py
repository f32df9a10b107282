"""What `--trace-config` asks for: `<mode>,<setting>=<value>` for one mode, `<setting>=<value>` for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from conch.errors import InvalidArgumentError
from conch.trace import TENSORS, TIMESTAMPS

#: Where traces may go.
MODES = ("triton", "opentelemetry")

_LEVELS = {"OFF": 0, "TIMESTAMPS": TIMESTAMPS, "TENSORS": TENSORS}
#: Settings of the batch span processor: Triton's name -> the SDK's parameter.
BATCH_SETTINGS = {
    "bsp_max_queue_size": "max_queue_size",
    "bsp_schedule_delay": "schedule_delay_millis",
    "bsp_max_export_batch_size": "max_export_batch_size",
}


class TraceOptions(msgspec.Struct, frozen=True):
    """Tracing as the command line has it.

    Attributes:
        mode: "triton" for files, "opentelemetry" for OTLP.
        level: TIMESTAMPS | TENSORS; 0 for off.
        rate: one request in so many is traced.
        count: how many are traced in all; -1 for no limit.
        file: where traces go in mode triton.
        log_frequency: traces to a file, which is then numbered; 0 for one file.
        url: where traces go in mode opentelemetry.
        resource: attributes of the service.
        batch: settings of the batch span processor, by the SDK's names.
    """

    mode: str = "triton"
    level: int = 0
    rate: int = 1000
    count: int = -1
    file: str = ""
    log_frequency: int = 0
    url: str = "http://localhost:4318/v1/traces"
    resource: Mapping[str, str] = {}
    batch: Mapping[str, int] = {}


def parse_trace_config(texts: Sequence[str]) -> TraceOptions:
    """The options that `--trace-config` texts amount to.

    Raises:
        InvalidArgumentError: a text of another form, a setting that there is none of, or a value out of range.
    """
    fields: dict[str, object] = {}
    level = 0
    resource: dict[str, str] = {}
    batch: dict[str, int] = {}
    for text in texts:
        head, equals, value = text.partition("=")
        mode, comma, setting = head.rpartition(",")
        if not equals or not setting or (comma and mode not in MODES):
            raise InvalidArgumentError(
                f"expects <setting>=<value> or <mode>,<setting>=<value> with mode triton or opentelemetry, got '{text}'"
            )
        if setting == "level":
            level |= _level(value)
        elif setting in ("rate", "count", "log-frequency"):
            smallest = {"rate": 1, "count": -1, "log-frequency": 0}[setting]
            fields[setting.replace("-", "_")] = _integer(text, value, smallest)
        elif setting == "mode":
            if value not in MODES:
                raise InvalidArgumentError(f"mode must be triton or opentelemetry, got '{value}'")
            fields["mode"] = value
        elif setting in ("file", "url"):
            fields[setting] = value
        elif setting == "resource":
            key, _, attribute = value.partition("=")
            resource[key] = attribute
        elif setting in BATCH_SETTINGS:
            batch[BATCH_SETTINGS[setting]] = _integer(text, value, 1)
        else:
            raise InvalidArgumentError(f"there is no setting '{setting}' (in '{text}')")
    options = msgspec.structs.replace(TraceOptions(), **fields, level=level, resource=resource, batch=batch)
    if options.level and options.mode == "triton" and not options.file:
        raise InvalidArgumentError("tracing to files needs a file: triton,file=<path>")
    return options


def _level(value: str) -> int:
    if value not in _LEVELS:
        raise InvalidArgumentError(f"level must be OFF, TIMESTAMPS or TENSORS, got '{value}'")
    return _LEVELS[value]


def _integer(text: str, value: str, smallest: int) -> int:
    try:
        number = int(value)
    except ValueError:
        number = smallest - 1
    if number < smallest:
        raise InvalidArgumentError(f"expects an integer >= {smallest} in '{text}'")
    return number
