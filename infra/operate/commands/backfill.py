"""`make backfill SINCE=2026-11-01 [UNTIL=...]`: stores the items of a window of any length.

The deployed `reconcile` does it. A long window is divided, because one request to a function has
limited time; a part that is not finished is requested again. Stored items stay stored, so a
backfill that is stopped can be repeated. PHOTOS=1 [SINCE=...] archives the photos of the items that
are stored already: it publishes these items once more, which `archive` then reads. Exit status 0
when the window is finished; 1 when it is not; 2 when it could not begin.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from operate.commands.arguments import divide, read_window
from operate.commands.republish import publish_stored
from operate.console import UsageError, confirm, print_error, print_text
from operate.installation import Installation, Reconcile
from pipeline.reconcile.counts import COUNTS


def run(installation: Installation, settings: Mapping[str, str], console: Console) -> int:
    """Reconcile the window; return the exit status."""
    if settings.get("PHOTOS") == "1":
        if not installation.archives_photos():
            raise UsageError('PHOTOS=1 needs an installation with photos = "archive".')
        return publish_stored(installation, settings, console, lambda item: item.photo_count > 0)
    start, end = read_window(settings)
    with installation.reconcile() as reconcile:
        windows = list(divide(start, end, reconcile.longest or end - start))
        print_text(
            console,
            f"reconcile stores the items created from {start:%F %T} to {end:%F %T} (UTC) that are"
            f" missing from storage, or newer than there: {len(windows)} requests to"
            f" {reconcile.description}",
        )
        if installation.asks_before_changes:
            confirm(console, settings, "Begin?")
        counts, problems = _reconcile(reconcile, windows, console)
    print_text(console, ", ".join(f"{counts[name]} {name}" for name in COUNTS))
    for line in problems:
        print_error(console, line)
    return 1 if problems else 0


def _reconcile(
    reconcile: Reconcile, windows: list[tuple[datetime, datetime]], console: Console
) -> tuple["Counter[str]", list[str]]:
    """The counts of all windows, and what went wrong."""
    counts: Counter[str] = Counter()
    problems: dict[str, None] = {}
    first, last = windows[0][0], windows[-1][1]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[seen]} seen"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("", total=(last - first).total_seconds(), seen=0)

        def show(reached: datetime, seen: int) -> None:
            completed = (reached - first).total_seconds()
            progress.update(bar, completed=completed, seen=counts["seen"] + seen)

        for start, end in windows:
            progress.update(bar, description=f"{start:%F}")
            answer = reconcile.window(start, end, show)
            if answer.reason:
                problems[f"unfinished: {start:%F %T} to {end:%F %T}: {answer.reason}"] = None
            if answer.warning:
                problems[f"warning: {answer.warning}"] = None
            counts.update(answer.counts)
            show(end, 0)
    return counts, list(problems)
