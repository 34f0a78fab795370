"""`make status ENV=...`: what is deployed, whether it is up, and what waits or lies parked.

Exit status 0 when all is well, 1 when something needs a person. Numbers of Cloud Monitoring are
some minutes old.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from operate.cloud import Cloud, read_installation
from operate.console import run
from operate.logs import read_entries

_LATE_SECONDS = 15 * 60
_MOST_ERRORS = "100"


@dataclass(frozen=True)
class Finding:
    """One line of the answer. `remedy` is empty where all is well."""

    what: str
    value: str
    remedy: str = ""


def main() -> int:
    return run(_status)


def _status(console: Console) -> int:
    cloud = Cloud(read_installation(os.environ))
    return show(console, list(findings(cloud, cloud.outputs())))


def show(console: Console, findings: Sequence[Finding]) -> int:
    """Print the findings; return the exit status, 1 where one needs a person."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for finding in findings:
        style = "red" if finding.remedy else None
        table.add_row(finding.what, finding.value, finding.remedy, style=style)
    console.print(table)
    return 1 if any(finding.remedy for finding in findings) else 0


def findings(cloud: Cloud, outputs: dict[str, Any]) -> Iterator[Finding]:
    """How an installation stands, of which Terraform has these outputs."""
    where = cloud.installation
    names = f"ENV={where.environment} PROJECT={where.project}"
    yield Finding("environment", f"{where.environment} in {where.project}, {outputs['region']}")
    yield Finding("webhook URL", outputs["webhook_url"])
    for function in outputs["functions"].values():
        state, version = _function_state(cloud, function["name"], outputs["region"])
        remedy = "" if state == "ACTIVE" else f"make deploy {names}, and read what it says"
        yield Finding(function["name"], f"{state}, version {version}", remedy)
    backlog = cloud.metric("num_undelivered_messages", outputs["subscription"])
    yield Finding("events that wait", _number(backlog))
    oldest = cloud.metric("oldest_unacked_message_age", outputs["subscription"])
    late = (oldest or 0) > _LATE_SECONDS
    yield Finding(
        "the oldest waits",
        "-" if oldest is None else f"{oldest:.0f} s",
        f"make logs SEVERITY=WARNING {names}" if late else "",
    )
    dead = cloud.metric("num_undelivered_messages", outputs["dead_letter_subscription"])
    yield Finding("dead letters", _number(dead), f"make redrive {names}" if dead else "")
    yield _last_event(cloud)
    hour, day = (cloud.counted("webhooks", "published", hours) for hours in (1, 24))
    yield Finding("events", f"{hour} in the last hour, {day} in the last day")
    errors = len(read_entries(cloud, ["severity>=ERROR"], "1h", _MOST_ERRORS))
    yield Finding(
        "errors in the last hour",
        f"{errors}{' or more' if errors == int(_MOST_ERRORS) else ''}",
        f"make logs SEVERITY=ERROR {names}" if errors else "",
    )
    yield _last_repairs(cloud)
    for name, job in outputs.get("scheduler_jobs", {}).items():
        yield _last_run(cloud, name, job, names)


def _function_state(cloud: Cloud, name: str, region: str) -> tuple[str, str]:
    described = cloud.gcloud(
        "functions", "describe", name, "--gen2", f"--region={region}", "--format=json"
    )
    found = json.loads(described)
    return found.get("state", "unknown"), found.get("labels", {}).get("version", "unknown")


def _last_event(cloud: Cloud) -> Finding:
    last = read_entries(cloud, ['jsonPayload.message="webhook published"'], "30d", "1")
    return Finding("last event", last[-1]["timestamp"][:19] if last else "none in 30 days")


def _last_repairs(cloud: Cloud) -> Finding:
    """What the last reconcile found that no webhook had told of."""
    last = read_entries(cloud, ['jsonPayload.message="reconcile done"'], "7d", "1")
    if not last:
        return Finding("repaired by reconcile", "none has ended in 7 days")
    said = last[-1]["jsonPayload"]
    stored, updated, seen = (int(said.get(name, 0)) for name in ("stored", "updated", "seen"))
    return Finding(
        "repaired by reconcile",
        f"{stored} stored and {updated} updated of {seen}, {last[-1]['timestamp'][:19]}",
    )


def _last_run(cloud: Cloud, name: str, job: str, names: str) -> Finding:
    _, _, _, region, _, job_id = job.split("/")
    described = cloud.gcloud(
        "scheduler", "jobs", "describe", job_id, f"--location={region}", "--format=json"
    )
    found = json.loads(described)
    what = f"{name} reconcile"
    if "lastAttemptTime" not in found:
        return Finding(what, "none yet")
    failed = bool((found.get("status") or {}).get("code"))
    return Finding(
        what,
        f"{found['lastAttemptTime']}, {'failed' if failed else 'done'}",
        f"make logs SEVERITY=ERROR {names}" if failed else "",
    )


def _number(value: float | None) -> str:
    return "0" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main())
