"""`make logs ENV=...`: what the functions of an installation have logged, oldest first.

LAST=1h (or 30m, 2d) says how far back, LIMIT=200 how many at most, EVENT=msg_... of which event,
SEVERITY=WARNING from which severity on.
"""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from operate.cloud import Cloud, read_installation
from operate.console import UsageError, run

_FORMS = {
    "LAST": (r"\d+[smhd]", "1h", "a time such as 30m, 1h or 2d"),
    "LIMIT": (r"[1-9]\d*", "200", "a number of lines"),
    "EVENT": (r"[A-Za-z0-9._-]+", "", "an event's id, as the webhook dashboard shows it"),
    "SEVERITY": (r"DEBUG|INFO|WARNING|ERROR", "", "DEBUG, INFO, WARNING or ERROR"),
}


def main() -> int:
    return run(_logs)


def _logs(console: Console) -> int:
    where = read_installation(os.environ)
    asked = {name: _asked(name) for name in _FORMS}
    parts = []
    if asked["EVENT"]:
        parts.append(f'jsonPayload.event_id="{asked["EVENT"]}"')
    if asked["SEVERITY"]:
        parts.append(f"severity>={asked['SEVERITY']}")
    entries = read_entries(Cloud(where), parts, asked["LAST"], asked["LIMIT"])
    for entry in entries:
        console.print(_line(entry), markup=False, soft_wrap=True)
    if not entries:
        console.print(f"Nothing in the last {asked['LAST']}.", markup=False)
    return 0


def read_entries(cloud: Cloud, parts: Sequence[str], last: str, limit: str) -> list[dict[str, Any]]:
    """What Cloud Logging has of the functions and of all these parts of a filter, oldest first.

    Raises:
        CommandError: it cannot be read.
    """
    prefix = cloud.installation.prefix
    services = " OR ".join(f'"{prefix}-{name}"' for name in ("receive", "resolve", "reconcile"))
    printed = cloud.gcloud(
        "logging",
        "read",
        " AND ".join(
            (
                'resource.type="cloud_run_revision"',
                f"resource.labels.service_name=({services})",
                *parts,
            )
        ),
        f"--freshness={last}",
        f"--limit={limit}",
        "--format=json",
    )
    entries: list[dict[str, Any]] = json.loads(printed or "[]")
    return entries[::-1]  # gcloud gives the newest first, and the limit cuts the oldest


def function_of(entry: Mapping[str, Any]) -> str:
    """Which of the functions has logged it."""
    return str(entry["resource"]["labels"]["service_name"]).rpartition("-")[2]


def _asked(name: str) -> str:
    form, default, meaning = _FORMS[name]
    value = os.environ.get(name) or default
    if value and not re.fullmatch(form, value):
        raise UsageError(f"{name}={value} is not {meaning}.")
    return value


def _line(entry: dict[str, Any]) -> str:
    function = function_of(entry)
    said = dict(entry.get("jsonPayload") or {"message": entry.get("textPayload", "")})
    message = said.pop("message", "")
    if request := entry.get("httpRequest"):
        message = f"{request.get('requestMethod')} {request.get('status')} {message}"
    rest = " ".join(f"{name}={value}" for name, value in said.items())
    when = entry["timestamp"][:23].replace("T", " ")
    return f"{when} {entry.get('severity', ''):<8}{function:<10}{message} {rest}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
