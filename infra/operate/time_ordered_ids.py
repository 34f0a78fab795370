"""Ids that begin with a time: those of Dimmy's items and of Svix's events.

An item has a MongoDB ObjectId, whose first eight hexadecimal digits are seconds since 1970
(https://www.mongodb.com/docs/manual/reference/bson-types/#objectid). An event has `msg_` and a
KSUID: 27 digits of base 62 for 20 bytes, of which the first four are seconds since 2014-05-13
(https://github.com/segmentio/ksuid). Both are in the order of their times.
"""

from datetime import UTC, datetime

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KSUID_LENGTH = 27
_KSUID_EPOCH = 1_400_000_000
_KSUID_PAYLOAD_BITS = 128


def time_in(item_id: str) -> datetime | None:
    """The time in an id that is an ObjectId, or None for another id."""
    if len(item_id) != 24:
        return None
    try:
        return datetime.fromtimestamp(int(item_id[:8], 16), UTC)
    except ValueError:
        return None


def first_item_id(time: datetime) -> str:
    """The beginning of the first ObjectId that a time can have."""
    return f"{_seconds(time):08x}"


def first_event_id(time: datetime) -> str:
    """The first id that an event of a time can have."""
    number = max(0, _seconds(time) - _KSUID_EPOCH) << _KSUID_PAYLOAD_BITS
    digits = ""
    for _ in range(_KSUID_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"msg_{digits}"


def _seconds(time: datetime) -> int:
    return min(max(0, int(time.timestamp())), 2**32 - 1)
