"""Log lines: one JSON object per line, as Cloud Logging reads it, or readable text on a terminal.

The field `trace`, the request's traceparent header, is written in the form by which Cloud Logging
groups the lines of a request (https://cloud.google.com/logging/docs/structured-logging).

The logging module is not used: creating one of its records takes several times as long as writing
the line.
"""

import contextlib
import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.environment import Environment, one_of

Severity = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Formatter = Callable[[Severity, str, dict[str, Any]], str]

_RANKS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")  # W3C
_STACK_TRACE = "stack_trace"
_encode = json.JSONEncoder(default=str).encode


@dataclass(frozen=True, slots=True)
class LogSettings:
    """LOG_FORMAT (`json` or `text`), LOG_LEVEL (a severity) and GOOGLE_CLOUD_PROJECT."""

    format: str
    level: str
    project: str | None  # the project of the traces; None: lines refer to no trace


def read_log_settings(environment: Environment) -> LogSettings:
    """The settings of the log."""
    return LogSettings(
        format=environment.optional("LOG_FORMAT", one_of("json", "text"), "json"),
        level=environment.optional("LOG_LEVEL", one_of(*_RANKS), "INFO"),
        project=environment.optional("GOOGLE_CLOUD_PROJECT", _project, None),
    )


def configure(settings: LogSettings, secrets: Sequence[str] = ()) -> None:
    """Write lines of at least this level, in this format, and no secret in a traceback."""
    _log.secrets = tuple(secrets)
    _log.format = _json_formatter(settings.project) if settings.format == "json" else _as_text
    _log.least_rank = _RANKS[settings.level]
    # With LOG_EXECUTION_ID set, the framework replaces sys.stdout later on.
    _log.output = sys.stdout.buffer


def log(severity: Severity, message: str, **fields: Any) -> None:
    """Write one line with these fields. Safe to call from any thread."""
    if _RANKS[severity] >= _log.least_rank:
        write_line(_log.format(severity, message, fields))


def stack_trace(error: Exception) -> dict[str, str]:
    """The field of a log line in which Error Reporting finds a traceback.

    See https://cloud.google.com/error-reporting/docs/formatting-error-messages.
    """
    text = "".join(traceback.format_exception(error))
    for secret in _log.secrets:
        text = text.replace(secret, "***")
    return {_STACK_TRACE: text}


def write_line(line: str) -> None:
    """Write to standard output in one call, so that lines of two threads never mix."""
    # A closed output, such as a closed terminal, must not stop the work itself.
    with contextlib.suppress(OSError):
        _log.output.write(f"{line}\n".encode(errors="backslashreplace"))
        _log.output.flush()


def _json_formatter(project: str | None) -> Formatter:
    def as_json(severity: Severity, message: str, fields: dict[str, Any]) -> str:
        traceparent = fields.pop("trace", None)
        if traceparent and project and (trace := _TRACEPARENT.fullmatch(traceparent)):
            fields["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace[1]}"
            fields["logging.googleapis.com/spanId"] = trace[2]
        return _encode({"severity": severity, "message": message, **fields})

    return as_json


def _as_text(severity: Severity, message: str, fields: dict[str, Any]) -> str:
    lines = fields.get(_STACK_TRACE, "").splitlines()
    shown = {name: value for name, value in fields.items() if name not in {"trace", _STACK_TRACE}}
    columns = "  ".join(f"{name}={_printable(value)}" for name, value in shown.items())
    first = f"{time.strftime('%H:%M:%S')} {severity:<7} {message}  {columns}".rstrip()
    return "\n    ".join([first, *map(_printable, lines)])


def _printable(value: Any) -> str:
    """The value on one line, without the control characters that a hostile one may contain."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _project(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", text):
        raise ValueError("is not a project's id (6 to 30 lower-case letters, digits and dashes)")
    return text


class _Log:
    """The configuration of the process."""

    def __init__(self) -> None:
        self.format = _json_formatter(None)
        self.least_rank = _RANKS["INFO"]
        self.output = sys.stdout.buffer
        self.secrets: tuple[str, ...] = ()


_log = _Log()
