"""Arguments of the commands, which `make` passes on as environment variables."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from operate.console import UsageError
from pipeline.message import is_event_id
from pipeline.store.items import is_item_id


def read_event_id(settings: Mapping[str, str]) -> str:
    """EVENT, the id of an event, or nothing.

    Raises:
        UsageError: it does not have the form of an id.
    """
    return _read_id(settings.get("EVENT", ""), is_event_id)


def read_item_id(settings: Mapping[str, str]) -> str:
    """ITEM, the id of an item, or nothing.

    Raises:
        UsageError: it does not have the form of an id.
    """
    return _read_id(settings.get("ITEM", ""), is_item_id)


def _read_id(text: str, is_id: Callable[[str], bool]) -> str:
    text = text.removeprefix("…")  # of an id that was shown shortened
    if text and not is_id(text):
        raise UsageError(f"{text} is not an id: letters, digits, _ and - only.")
    return text


def read_last(settings: Mapping[str, str], default: str) -> str:
    """LAST, a length of time such as 30m, 1h or 2d.

    Raises:
        UsageError: it is not a length of time.
    """
    last = settings.get("LAST") or default
    if not re.fullmatch(r"\d+[smhd]", last):
        raise UsageError(f"LAST={last} is not a time such as 30m, 1h or 2d.")
    return last


def as_timedelta(last: str) -> timedelta:
    """The length of time of a text that `read_last` has accepted."""
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[last[-1]]
    return timedelta(**{unit: int(last[:-1])})


def read_number(settings: Mapping[str, str], name: str, default: int, highest: int) -> int:
    """A whole number from 1 to `highest`.

    Raises:
        UsageError: it is not a number in this range.
    """
    text = settings.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 0 < int(text) <= highest:
        raise UsageError(f"{name}={text} is not a number from 1 to {highest}.")
    return int(text)


def read_window(settings: Mapping[str, str]) -> tuple[datetime, datetime]:
    """From SINCE to UNTIL, by default and at most now; UTC where no zone is given.

    Raises:
        UsageError: one of them is not a date, or the window is empty.
    """
    if not settings.get("SINCE"):
        raise UsageError("SINCE is missing: the date to begin with, as in SINCE=2026-11-01")
    start = read_date(settings, "SINCE")
    end = datetime.now(UTC)
    if settings.get("UNTIL"):
        end = min(end, read_date(settings, "UNTIL"))
    if start >= end:
        raise UsageError(
            f"The window from SINCE={start:%F %T} to UNTIL={end:%F %T} (UTC) is empty."
        )
    return start, end


def divide(
    start: datetime, end: datetime, length: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """A window in parts, oldest first."""
    while start < end:
        until = min(start + length, end)
        yield start, until
        start = until


def read_date(settings: Mapping[str, str], name: str) -> datetime:
    """A date or a time, in UTC; that is also its zone where none is given.

    Raises:
        UsageError: it is neither.
    """
    try:
        date = datetime.fromisoformat(settings[name])
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the second: in the year 0 in UTC
        raise UsageError(
            f"{name}={settings[name]} is not a date such as 2026-11-01 or 2026-11-01T08:00:00."
        ) from None
