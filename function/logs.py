"""Logs: one JSON object a line, as Cloud Logging reads it, or readable text on a terminal.

A field `trace`, the request's traceparent header, becomes what Cloud Logging joins the lines of a
request by (https://cloud.google.com/logging/docs/structured-logging).
"""

import json
import logging
import re
import sys
from typing import Any

from settings import LogSettings

# Not of the logging module's own tree: the framework, told by Google to log execution ids, disables
# every logger there after this module was imported.
logger = logging.Logger("dimmy")  # noqa: LOG001

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")  # W3C


def configure(settings: LogSettings) -> None:
    """Send this project's records to standard output in the chosen form."""
    handler = logging.StreamHandler(sys.stdout)
    is_json = settings.format == "json"
    handler.setFormatter(_JsonFormatter(settings.project) if is_json else _TextFormatter())
    logger.handlers = [handler]
    logger.setLevel(settings.level)


def log(severity: str, message: str, **fields: Any) -> None:
    """One line. `severity` is a level of the logging module; `fields` are its columns."""
    logger.log(logging.getLevelNamesMapping()[severity], message, extra={"fields": fields})


class _JsonFormatter(logging.Formatter):
    def __init__(self, project: str | None) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        fields = dict(record.__dict__.get("fields", {}))
        trace = _TRACEPARENT.fullmatch(fields.pop("trace", None) or "")
        if trace and self._project:
            fields["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{trace[1]}"
            fields["logging.googleapis.com/spanId"] = trace[2]
        line = {"severity": record.levelname, "message": record.getMessage()}
        return json.dumps(line | fields, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = record.__dict__.get("fields", {})
        shown = {name: value for name, value in fields.items() if name != "trace"}
        columns = "  ".join(f"{name}={_plain(value)}" for name, value in shown.items())
        time = self.formatTime(record, "%H:%M:%S")
        return f"{time} {record.levelname:<7} {record.getMessage()}  {columns}".rstrip()


def _plain(value: Any) -> str:
    """The value on one line and without control characters, which a hostile one may contain."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
