"""The window of a backfill: what SINCE and UNTIL say."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from operate.console import UsageError

Window = tuple[datetime, datetime]


def read_window(settings: Mapping[str, str]) -> Window:
    """From SINCE to UNTIL, which is now where it is not given; UTC where no zone is.

    Raises:
        UsageError: one of them is no date, or nothing lies between them.
    """
    if not settings.get("SINCE"):
        raise UsageError("SINCE is missing: say from when on, as in make backfill SINCE=2026-11-01")
    start = _date(settings, "SINCE")
    end = _date(settings, "UNTIL") if settings.get("UNTIL") else datetime.now(UTC)
    if start >= end:
        raise UsageError(f"Nothing lies between SINCE={start:%F %T} and UNTIL={end:%F %T} (UTC).")
    return start, end


def slices(start: datetime, end: datetime, length: timedelta) -> Iterator[Window]:
    """The window in pieces, oldest first."""
    while start < end:
        until = min(start + length, end)
        yield start, until
        start = until


def _date(settings: Mapping[str, str], name: str) -> datetime:
    try:
        date = datetime.fromisoformat(settings[name])
    except ValueError:
        raise UsageError(
            f"{name}={settings[name]} is no date such as 2026-11-01 or 2026-11-01T08:00:00."
        ) from None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
