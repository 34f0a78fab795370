"""Logs: one JSON object a line, as Cloud Logging reads it, or readable text on a terminal."""

import json
import logging
import sys
from typing import Any

from settings import LogSettings

# Not of the logging module's own tree: the framework, told by Google to log execution ids, disables
# every logger there after this module was imported.
logger = logging.Logger("dimmy")  # noqa: LOG001


def configure(settings: LogSettings) -> None:
    """Send this project's records to standard output in the chosen form."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter() if settings.format == "json" else _TextFormatter())
    logger.handlers = [handler]
    logger.setLevel(settings.level)


def log(severity: str, message: str, **fields: Any) -> None:
    """One line. `severity` is a level of the logging module; `fields` are its columns."""
    logger.log(logging.getLevelNamesMapping()[severity], message, extra={"fields": fields})


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"severity": record.levelname, "message": record.getMessage()}
        return json.dumps(line | record.__dict__.get("fields", {}), default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = record.__dict__.get("fields", {})
        columns = "  ".join(f"{name}={_plain(value)}" for name, value in fields.items())
        time = self.formatTime(record, "%H:%M:%S")
        return f"{time} {record.levelname:<7} {record.getMessage()}  {columns}".rstrip()


def _plain(value: Any) -> str:
    """The value on one line and without control characters, which a hostile one may contain."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
