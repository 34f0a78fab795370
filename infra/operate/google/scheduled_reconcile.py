"""Calls `reconcile` through Cloud Scheduler, where its ingress is internal.

A job is created for each request, run, and deleted. The answer is the log line of the request.
"""

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from operate.google.gcloud import Gcloud
from operate.google.log_entries import read_reconcile_lines

_NEVER = "0 0 29 2 *"  # a job needs a schedule; this one is deleted before 29 February
_PATIENCE_SECONDS = 1860.0  # longer than the function's timeout, and the delay of a log line
_PAUSE_SECONDS = 5.0


class ScheduledCaller:
    """Implements `reconcile.Caller`."""

    description = "Cloud Scheduler, because reconcile admits only internal requests"

    def __init__(
        self, gcloud: Gcloud, outputs: Mapping[str, Any], settings: Mapping[str, str]
    ) -> None:
        function = outputs["functions"]["reconcile"]
        self._gcloud = gcloud
        self._url = function["url"]
        self._account = function["invoker"].removeprefix("serviceAccount:")
        self._region = outputs["scheduler_region"]
        self._pause_seconds = float(settings.get("PAUSE_SECONDS") or _PAUSE_SECONDS)
        self._patience_seconds = float(settings.get("PATIENCE_SECONDS") or _PATIENCE_SECONDS)

    def call(self, parameters: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        began_at = datetime.now(UTC)
        job = f"{self._gcloud.deployment.prefix}-backfill-{secrets.token_hex(4)}"
        self._run(
            "create",
            "http",
            job,
            f"--uri={self._url}/?{urlencode(parameters)}",
            f"--schedule={_NEVER}",
            "--http-method=POST",
            "--attempt-deadline=30m",
            "--max-retry-attempts=0",
            f"--oidc-service-account-email={self._account}",
            f"--oidc-token-audience={self._url}",
        )
        try:
            self._run("run", job)
            return self._wait_for_answer(parameters, began_at)
        finally:
            self._run("delete", job)

    def _wait_for_answer(
        self, parameters: Mapping[str, str], began_at: datetime
    ) -> tuple[int, Mapping[str, Any]]:
        give_up = time.monotonic() + self._patience_seconds
        while time.monotonic() < give_up:
            for fields in read_reconcile_lines(self._gcloud, began_at):
                if _is_answer(fields, parameters):
                    status = 200 if fields["outcome"] == "done" else 503
                    return status, {"message": fields.get("reason", ""), **fields}
            time.sleep(self._pause_seconds)
        return 504, {"message": "Cloud Logging has no answer of reconcile."}

    def _run(self, *arguments: str) -> None:
        self._gcloud.run("scheduler", "jobs", *arguments, f"--location={self._region}")


def _is_answer(fields: Mapping[str, Any], parameters: Mapping[str, str]) -> bool:
    """Whether a run had this window; `reconcile` ends one at its own present, not in the future."""
    start, asked_start = (_time(each["start_date"]) for each in (fields, parameters))
    end, asked_end = (_time(each["end_date"]) for each in (fields, parameters))
    return start == asked_start and end <= asked_end


def _time(text: object) -> datetime:
    """A time in UTC, with or without its offset."""
    return datetime.fromisoformat(str(text)).replace(tzinfo=None)
