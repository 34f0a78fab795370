"""Times as people read them: in their own time zone, with its name. TZ=UTC asks for UTC."""

import re
from datetime import datetime

from pipeline.store.timestamps import read_timestamp

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}")


def shown(time: datetime) -> str:
    """Such as `2026-11-01 09:00:06 CET`."""
    return f"{_local(time):%Y-%m-%d %H:%M:%S %Z}"


def shown_exactly(time: datetime) -> str:
    """The same with milliseconds."""
    local = _local(time)
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03} {local:%Z}"


def shown_text(text: str) -> str:
    """A time that is given as text, in UTC where it has no zone; another text as it is."""
    time = read_timestamp(text) if _TIME.match(text) else None
    return shown(time.datetime) if time else text


def lasting(seconds: float) -> str:
    """A length of time in its largest unit, such as `16 min`; up to two of the unit in the next."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _local(time: datetime) -> datetime:
    """The time in the zone of this machine; as it is at the ends of the calendar."""
    try:
        return time.astimezone()
    except (OverflowError, ValueError):
        return time
