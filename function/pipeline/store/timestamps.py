"""Times of items, with the precision that they were written with.

Dimmy's times are ISO 8601 without a zone, in UTC. A database that keeps milliseconds changes
`.123456` to `.123000` or `.123`, so two times are compared at the precision that both of them have.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND, _MILLISECOND, _SECOND, _DAY = 1, 1_000, 1_000_000, 86_400_000_000
# Of the years 2001 to 2286. Other numbers may be dates without separators.
_UNIX_TIME = re.compile(r"(\d{10}|\d{13}|\d{16})(?:\.(\d{1,9}))?")
_UNITS = {10: _SECOND, 13: _MILLISECOND, 16: _MICROSECOND}
_DATE = re.compile(r"[\d-]+")
_FRACTION = re.compile(r":\d{2}[.,](\d+)")


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A point in time: microseconds since 1970, and its precision in microseconds."""

    microseconds: int
    unit: int

    def compare(self, other: "Timestamp") -> int:
        """-1, 0 or 1 where this time is earlier, equal or later, at the common precision."""
        unit = max(self.unit, other.unit)
        own, others = self.microseconds // unit, other.microseconds // unit
        return (own > others) - (own < others)

    @property
    def datetime(self) -> datetime:
        """The time in UTC."""
        return _EPOCH + timedelta(microseconds=self.microseconds)


def read_timestamp(value: object) -> Timestamp | None:
    """The time in a JSON value, or None where it is not plainly one.

    ISO 8601 with or without a zone (then it is UTC), or unix time in seconds, milliseconds or
    microseconds, as a number or as text.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    if unix_time := _UNIX_TIME.fullmatch(text):
        return _read_unix_time(unix_time[1], unix_time[2] or "")
    try:
        time = datetime.fromisoformat(text)
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    microseconds = (time - _EPOCH) // timedelta(microseconds=1)
    if _DATE.fullmatch(text):
        return Timestamp(microseconds, _DAY)
    fraction = _FRACTION.search(text)
    # Python, in which Dimmy's API is written, leaves a fraction of zero out.
    return Timestamp(microseconds, _unit(microseconds, len(fraction[1]) if fraction else 3))


def _read_unix_time(whole: str, fraction: str) -> Timestamp:
    scale = _UNITS[len(whole)]
    digits = len(str(_SECOND // scale)) - 1 + len(fraction)
    microseconds = int(whole) * scale + int(f"{fraction:0<9.9}") * scale // 10**9
    return Timestamp(microseconds, _unit(microseconds, digits))


def _unit(microseconds: int, digits: int) -> int:
    """The precision of a time that is written with so many digits after the seconds.

    Zeros at the end may be the padding of a database that keeps milliseconds.
    """
    if digits > 3 and microseconds % _MILLISECOND:
        return _MICROSECOND
    return int(10 ** (6 - min(digits, 3)))
