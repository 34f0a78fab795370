"""Logs: one JSON object a line, as Cloud Logging reads it, or readable text on a terminal.

A field `trace`, the request's traceparent header, becomes what Cloud Logging joins the lines of a
request by (https://cloud.google.com/logging/docs/structured-logging).

The logging module is left to the libraries: a record of it costs several times the line.
"""

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

from settings import LogSettings

Severity = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

_RANKS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")  # W3C
_encode = json.JSONEncoder(default=str).encode

Formatter = Callable[[Severity, str, dict[str, Any]], str]


def configure(settings: LogSettings) -> None:
    """Let lines of at least the level be written, in the chosen form."""
    _chosen.form = _json_formatter(settings.project) if settings.format == "json" else _as_text
    _chosen.least = _RANKS[settings.level]
    # The framework, told by Google to log execution ids, puts something else in its place later.
    _chosen.output = sys.stdout.buffer


def log(severity: Severity, message: str, **fields: Any) -> None:
    """One line; `fields` are its columns. Safe to call from any thread."""
    if _RANKS[severity] >= _chosen.least:
        write_line(_chosen.form(severity, message, fields))


def write_line(line: str) -> None:
    """Write to standard output, whole: the lines of two threads never mix."""
    # Where nobody reads any more (a closed terminal), the work itself goes on.
    with contextlib.suppress(OSError):
        _chosen.output.write(f"{line}\n".encode(errors="backslashreplace"))
        _chosen.output.flush()


def _json_formatter(project: str | None) -> Formatter:
    def as_json(severity: Severity, message: str, fields: dict[str, Any]) -> str:
        traceparent = fields.pop("trace", None)
        if traceparent and project and (trace := _TRACEPARENT.fullmatch(traceparent)):
            fields["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace[1]}"
            fields["logging.googleapis.com/spanId"] = trace[2]
        return _encode({"severity": severity, "message": message, **fields})

    return as_json


def _as_text(severity: Severity, message: str, fields: dict[str, Any]) -> str:
    shown = {name: value for name, value in fields.items() if name != "trace"}
    columns = "  ".join(f"{name}={_plain(value)}" for name, value in shown.items())
    return f"{time.strftime('%H:%M:%S')} {severity:<7} {message}  {columns}".rstrip()


def _plain(value: Any) -> str:
    """The value on one line and without control characters, which a hostile one may contain."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class _Chosen:
    def __init__(self) -> None:
        self.form = _json_formatter(None)
        self.least = _RANKS["INFO"]
        self.output = sys.stdout.buffer


_chosen = _Chosen()
