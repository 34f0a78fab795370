"""Log lines in Cloud Logging."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from operate.google.gcloud import Gcloud
from operate.installation import LogLine, LogQuery, ids_in

_MAX_RECONCILE_LINES = 100
_FUNCTIONS = ("receive", "resolve", "reconcile", "archive")


def read_log_lines(gcloud: Gcloud, query: LogQuery) -> list[LogLine]:
    """The log lines of the functions, oldest first. Raises CommandError."""
    filters = []
    if query.event_id:
        filters.append(f'jsonPayload.event_id="{query.event_id}"')
    if query.item_id:
        filters.append(f'jsonPayload.item_id="{query.item_id}"')
    if query.message:
        filters.append(f'jsonPayload.message="{query.message}"')
    if query.severity:
        filters.append(f"severity>={query.severity}")
    if not query.has_requests:
        filters.append("NOT httpRequest.status:*")
    functions = [query.function] if query.function else _FUNCTIONS
    return _read(gcloud, filters, query.last, query.limit, functions)


def read_events_of_item(gcloud: Gcloud, item_id: str, last: str, limit: int) -> list[str]:
    """The ids of the events whose log lines name an item, oldest first. Raises CommandError."""
    named = f'(jsonPayload.item_ids="{item_id}" OR jsonPayload.item_id="{item_id}")'
    lines = _read(gcloud, [named], last, limit)
    event_ids = (str(line.fields["event_id"]) for line in lines if "event_id" in line.fields)
    return list(dict.fromkeys(event_ids))


def read_ids_ending(
    gcloud: Gcloud, names: Sequence[str], ending: str, last: str, limit: int
) -> set[str]:
    """The ids with an ending, in any of these fields of the log lines. Raises CommandError."""
    named = " OR ".join(f'jsonPayload.{name}=~"{ending}$"' for name in names)
    lines = _read(gcloud, [f"({named})"], last, limit)
    return {each for line in lines for each in ids_in(line.fields, names) if each.endswith(ending)}


def read_reconcile_lines(gcloud: Gcloud, since: datetime) -> list[Mapping[str, Any]]:
    """The fields of the log lines about ended requests of reconcile. Raises CommandError."""
    filters = [
        'jsonPayload.message=("reconcile done" OR "reconcile unfinished")',
        f'timestamp>="{since.isoformat()}"',
    ]
    return [line.fields for line in _read(gcloud, filters, "1d", _MAX_RECONCILE_LINES)]


def _read(
    gcloud: Gcloud,
    filters: Sequence[str],
    last: str,
    limit: int,
    functions: Sequence[str] = _FUNCTIONS,
) -> list[LogLine]:
    prefix = gcloud.deployment.prefix
    services = " OR ".join(f'"{prefix}-{name}"' for name in functions)
    printed = gcloud.run(
        "logging",
        "read",
        " AND ".join(
            (
                'resource.type="cloud_run_revision"',
                f"resource.labels.service_name=({services})",
                *filters,
            )
        ),
        f"--freshness={last}",
        f"--limit={limit}",
        "--format=json",
    )
    entries = json.loads(printed or "[]")
    return [_log_line(entry) for entry in reversed(entries)]  # gcloud gives the newest first


def _log_line(entry: Mapping[str, Any]) -> LogLine:
    function = str(entry["resource"]["labels"]["service_name"]).rpartition("-")[2]
    fields = entry.get("jsonPayload") or {"message": entry.get("textPayload", "")}
    fields = {name: _number(value) for name, value in fields.items()}
    if request := entry.get("httpRequest"):
        answer = f"{request.get('requestMethod')} {request.get('status')}"
        fields["message"] = f"{answer} {fields.get('message', '')}".strip()
    if "severity" in entry:
        fields["severity"] = entry["severity"]
    return LogLine(datetime.fromisoformat(entry["timestamp"]), function, fields)


def _number(value: Any) -> Any:
    """Cloud Logging stores every number as a floating one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
