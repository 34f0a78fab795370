"""`make backfill ENV=... SINCE=...`: `reconcile` goes through a window of any length, day by day.

A day at a time, because one request to a function has its time, too; a day that is not finished is
asked for again. Whatever was stored stays stored, so a backfill that is stopped can be repeated.
"""

import os
import sys
import time
from collections import Counter
from datetime import datetime, timedelta

import requests
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from operate.cloud import Cloud, read_installation
from operate.console import CommandError, confirm, run, say_error
from operate.window import read_window, slices

COUNTS = ("seen", "stored", "updated", "unchanged", "failed")
_SLICE = timedelta(days=1)
_TRIES = 3
_REQUEST_SECONDS = 1830  # a little more than the function has
_TOKEN_SECONDS = 1800  # of the hour that an identity token is good for


def main() -> int:
    return run(_backfill)


def _backfill(console: Console) -> int:
    where = read_installation(os.environ)
    start, end = read_window(os.environ)
    cloud = Cloud(where)
    reconcile = Reconcile(cloud, cloud.outputs()["functions"]["reconcile"]["url"])
    days = list(slices(start, end, _SLICE))
    console.print(
        f"reconcile stores what Dimmy has from {start:%F %T} to {end:%F %T} (UTC) and the bucket"
        f" has not, or has older: {len(days)} requests to {reconcile.url}",
        markup=False,
        soft_wrap=True,
    )
    confirm(console, os.environ, "Begin?")
    counts: Counter[str] = Counter()
    unfinished: list[str] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[seen]} seen"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("", total=len(days), seen=0)
        for day, until in days:
            progress.update(bar, description=f"{day:%F}")
            reason = reconcile.window(day, until, counts)
            if reason:
                unfinished.append(f"{day:%F %T} to {until:%F %T}: {reason}")
            progress.update(bar, advance=1, seen=counts["seen"])
    console.print(", ".join(f"{counts[name]} {name}" for name in COUNTS), markup=False)
    for line in unfinished:
        say_error(console, f"unfinished: {line}")
    return 1 if unfinished else 0


class Reconcile:
    """The deployed `reconcile`, called as the person that gcloud knows."""

    def __init__(self, cloud: Cloud, url: str) -> None:
        self.url = url
        self._cloud = cloud
        self._token = ""
        self._token_until = 0.0

    def window(self, start: datetime, end: datetime, counts: "Counter[str]") -> str:
        """Go through a window and count; return why it is not finished, or nothing.

        Raises:
            CommandError: it cannot be called at all.
        """
        reason = ""
        for _ in range(_TRIES):
            response = self._post(start, end)
            if response.status_code in {401, 403}:
                raise CommandError(
                    f"reconcile answers {response.status_code}: the account of gcloud needs"
                    " roles/run.invoker on it"
                )
            answer = _json(response)
            if response.status_code == 200:
                counts.update({name: answer.get(name, 0) for name in COUNTS})
                return ""
            reason = f"{response.status_code} {answer.get('message', '')}"
            if response.status_code == 400:
                break
        return reason

    def _post(self, start: datetime, end: datetime) -> requests.Response:
        if time.monotonic() > self._token_until:
            self._token = self._cloud.token("identity")
            self._token_until = time.monotonic() + _TOKEN_SECONDS
        try:
            return requests.post(
                self.url,
                params={"start_date": start.isoformat(), "end_date": end.isoformat()},
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=_REQUEST_SECONDS,
            )
        except requests.RequestException as error:
            raise CommandError(f"reconcile cannot be reached: {type(error).__name__}") from error


def _json(response: requests.Response) -> dict[str, int]:
    try:
        answer: dict[str, int] = response.json()
    except requests.JSONDecodeError:
        return {}
    return answer


if __name__ == "__main__":
    sys.exit(main())
