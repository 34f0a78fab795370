"""`make logs`: what the functions have logged, oldest first.

LAST=1h (or 30m, 2d) says how far back, LIMIT=200 how many lines at most, EVENT=msg_... which event,
SEVERITY=WARNING the lowest severity.
"""

from collections.abc import Mapping

from rich.console import Console

from operate.commands.arguments import read_last, read_number
from operate.console import UsageError, print_text
from operate.installation import Installation, LogLine, LogQuery
from operate.times import shown_exactly
from pipeline.message import is_event_id

_SEVERITIES = ("DEBUG", "INFO", "WARNING", "ERROR")
_MAX_LINES = 100_000


def run(installation: Installation, settings: Mapping[str, str], console: Console) -> int:
    """Print the log lines."""
    query = _read_query(settings)
    lines = installation.log_lines(query)
    for line in lines:
        print_text(console, _text(line))
    if not lines:
        print_text(console, f"Nothing in the last {query.last}.")
    return 0


def _read_query(settings: Mapping[str, str]) -> LogQuery:
    event_id, severity = settings.get("EVENT", ""), settings.get("SEVERITY", "")
    if event_id and not is_event_id(event_id):
        raise UsageError(
            f"EVENT={event_id} is not an event's id, as the webhook dashboard shows it."
        )
    if severity and severity not in _SEVERITIES:
        raise UsageError(f"SEVERITY={severity} is none of {', '.join(_SEVERITIES)}.")
    return LogQuery(
        last=read_last(settings, "1h"),
        limit=read_number(settings, "LIMIT", 200, _MAX_LINES),
        event_id=event_id,
        severity=severity,
    )


def _text(line: LogLine) -> str:
    fields = dict(line.fields)
    message, severity = fields.pop("message", ""), fields.pop("severity", "")
    rest = " ".join(f"{name}={value}" for name, value in fields.items())
    return f"{shown_exactly(line.time)} {severity:<8}{line.function:<10}{message} {rest}".rstrip()
