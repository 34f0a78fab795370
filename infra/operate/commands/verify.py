"""`make verify SINCE=2026-11-01 [UNTIL=...]`: compares what Dimmy's API lists with what is stored.

Day by day, by id and `updated_at`. REPAIR=1 lets `reconcile` store what is missing or older, and
compares those days again. Items that the API no longer lists are named and kept. Exit status 0 when
nothing is missing or older; 1 when something is; 2 when it could not begin.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from obstore.exceptions import BaseError
from rich.console import Console
from rich.table import Table

from operate.commands.arguments import divide, read_window
from operate.console import (
    CommandError,
    confirm,
    count_of,
    first_line,
    print_error,
    print_text,
    show_progress,
)
from operate.diagnosis.completeness import Comparison, Day
from operate.installation import Installation
from operate.object_listing import ListingError
from pipeline.dimmy.client import DimmyError

_MAX_SHOWN = 20


def run(installation: Installation, settings: Mapping[str, str], console: Console) -> int:
    """Compare, print the table, and repair if asked to; return the exit status."""
    start, end = read_window(settings)
    comparison = Comparison(installation.dimmy(), installation.storage())
    days = [Day(*each) for each in divide(start, end, timedelta(days=1))]
    days = _compare(comparison, days, console)
    _print_table(console, days)
    incomplete = [day for day in days if not day.is_complete]
    if incomplete and settings.get("REPAIR") == "1":
        if installation.asks_before_changes:
            confirm(console, settings, "Store what is missing or older?")
        _repair(installation, incomplete, console)
        incomplete = [
            day for day in _compare(comparison, incomplete, console) if not day.is_complete
        ]
    if not incomplete:
        print_text(console, "Everything that the API lists is stored.")
        return 0
    _print_incomplete(installation, incomplete, console)
    return 1


def _compare(comparison: Comparison, days: Sequence[Day], console: Console) -> list[Day]:
    try:
        compared = [
            comparison.compare_day(day.start, day.end)
            for day in show_progress(console, "days compared", days)
        ]
        if not comparison.lists_items():
            raise CommandError(
                "Dimmy's API lists no items at all: a new account, or DIMMY_API_URL is wrong."
            )
        comparison.add_only_stored(compared)
    except DimmyError as error:
        raise CommandError(f"Dimmy's API: {error}") from error
    except (BaseError, ListingError) as error:
        raise CommandError(f"storage: {first_line(error)}") from error
    return compared


def _repair(installation: Installation, days: Sequence[Day], console: Console) -> None:
    with installation.reconcile() as reconcile:
        for day in show_progress(console, "days repaired", days):
            answer = reconcile.window(day.start, day.end, lambda _reached, _seen: None, fresh=True)
            if answer.reason:
                print_error(console, f"{day.start:%F}: {answer.reason}")


def _print_table(console: Console, days: Sequence[Day]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("day (UTC)", "in the API", "stored", "missing", "older", "only in storage"):
        table.add_column(column, justify="left" if column.startswith("day") else "right")
    for day in days:
        counts = (
            day.listed,
            day.stored,
            len(day.missing) + len(day.malformed),
            len(day.older),
            len(day.only_stored),
        )
        style = None if day.is_complete else "red"
        table.add_row(
            f"{day.start:%F %T}".removesuffix(" 00:00:00"), *map(str, counts), style=style
        )
    console.print(table)
    only_stored = [item_id for day in days for item_id in day.only_stored]
    if only_stored:
        shown = ", ".join(only_stored[:_MAX_SHOWN])
        print_text(
            console, f"The API no longer lists {count_of(len(only_stored), 'item')}: {shown}"
        )


def _print_incomplete(installation: Installation, days: Sequence[Day], console: Console) -> None:
    for name in ("missing", "older", "malformed"):
        found = [each for day in days for each in getattr(day, name)]
        if found:
            print_text(console, f"{name}: {', '.join(found[:_MAX_SHOWN])}")
    since, until = min(day.start for day in days), max(day.end for day in days)
    verify = installation.instructions.command(
        "verify", SINCE=_as_text(since), UNTIL=_as_text(until), REPAIR="1"
    )
    print_text(console, f"{verify} stores what is missing or older.")


def _as_text(time: datetime) -> str:
    """A time in UTC, as SINCE and UNTIL take it."""
    return time.replace(tzinfo=None).isoformat()
