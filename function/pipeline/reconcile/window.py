"""The window of time of a reconcile, as a request asks for it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

DEFAULT_LENGTH = timedelta(hours=48)


class WindowError(ValueError):
    """The request does not ask for a window of time; the text says how to ask."""


@dataclass(frozen=True, slots=True)
class Window:
    """Items created from `start` on and before `end`, both in UTC.

    `name` is the same for each request of the same window, also where it ends with the present: it
    becomes the name of the window's checkpoint. `fresh`: no checkpoint of an earlier run is used.
    """

    start: datetime
    end: datetime
    name: str
    fresh: bool = False


def read_window(parameters: Mapping[str, Any]) -> Window:
    """The window of `start_date` and `end_date` (ISO 8601; UTC where no zone is given).

    Without an end, or with one in the future, it ends now; without a start it begins `hours` before
    its end, by default 48.

    Raises:
        WindowError: a parameter cannot be read, or the window is empty.
    """
    unknown = parameters.keys() - {"start_date", "end_date", "hours", "fresh"}
    if unknown:
        raise WindowError(f"{min(unknown)} is none of start_date, end_date, hours and fresh.")
    if "hours" in parameters and "start_date" in parameters:
        raise WindowError("start_date and hours both say when to begin: leave one of them out.")
    now = datetime.now(UTC)
    end = _read_date(parameters, "end_date") or now
    try:
        start = _read_date(parameters, "start_date") or end - _read_length(parameters)
    except OverflowError:
        raise WindowError("The window would begin before the year 1.") from None
    if start >= end:
        raise WindowError("start_date is not before end_date.")
    name = _name(parameters, start, end)
    # A run cannot have read what is created later.
    return Window(start, min(end, now) if start < now else end, name, _read_fresh(parameters))


def _name(parameters: Mapping[str, Any], start: datetime, end: datetime) -> str:
    if _text(parameters, "end_date") is not None:
        return f"{_compact(start)}-{_compact(end)}"
    if _text(parameters, "start_date") is not None:
        return f"since-{_compact(start)}"
    return f"last-{(end - start) // timedelta(hours=1)}h"


def _read_fresh(parameters: Mapping[str, Any]) -> bool:
    text = (_text(parameters, "fresh") or "false").lower()
    if text not in {"true", "false"}:
        raise WindowError("fresh is neither true nor false.")
    return text == "true"


def _read_date(parameters: Mapping[str, Any], name: str) -> datetime | None:
    text = _text(parameters, name)
    if text is None:
        return None
    try:
        date = datetime.fromisoformat(text)
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        hint = ""
        if re.search(r"\d \d\d:?\d\d$", text):
            hint = " In a query, write the + of a time zone as %2B: a bare + means a space."
        raise WindowError(
            f"{name} is not a date such as 2026-11-01 or 2026-11-01T08:00:00.{hint}"
        ) from None


def _compact(time: datetime) -> str:
    """A time as a part of a name."""
    return f"{time:%Y%m%dT%H%M%S.%fZ}"


def _read_length(parameters: Mapping[str, Any]) -> timedelta:
    text = _text(parameters, "hours")
    if text is None:
        return DEFAULT_LENGTH
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise WindowError("hours is not a whole number from 1 to 9999.")
    return timedelta(hours=int(text))


def _text(parameters: Mapping[str, Any], name: str) -> str | None:
    """A parameter as text, whatever its JSON type; None where it is missing or empty."""
    value = parameters.get(name)
    return None if value is None or value == "" else str(value)
