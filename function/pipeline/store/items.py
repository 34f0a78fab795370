"""Items: the result of one finished flow, as Dimmy's API returns it."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.json_text import compact, read_array, read_json

# An untrusted id that has another form never becomes part of a path, a URL or an object name.
_ITEM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class NotAnItemError(ValueError):
    """JSON, but not an item that can be stored; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item.

    `line` is the item as received, on one line and without spaces between tokens; numbers, escapes
    and the order of keys are unchanged. A time is None where the item has none that can be read.
    """

    item_id: str
    updated_at: datetime | None
    line: bytes = field(repr=False)
    created_at: datetime | None = None

    def is_newer_than(self, stored: "Item") -> bool:
        """Whether this item replaces the stored one.

        The newer `updated_at` wins. Equal times change nothing, and a readable time wins over a
        missing one.
        """
        if self.line == stored.line:
            return False
        if self.updated_at is None or stored.updated_at is None:
            return stored.updated_at is None
        return self.updated_at > stored.updated_at


def is_item_id(value: object) -> bool:
    """Whether the value can be an item's id: letters, digits, `_` and `-`, at most 128."""
    return isinstance(value, str) and _ITEM_ID.fullmatch(value) is not None


def read_item(body: bytes) -> Item:
    """The item in a JSON text.

    Raises:
        NotJsonError: the body is not JSON.
        NotAnItemError: it is not an object with a usable `_id`.
    """
    return as_item(read_json(body), body)


def as_item(value: object, body: bytes) -> Item:
    """The item of a decoded value and the JSON text it was decoded from.

    Raises:
        NotAnItemError: the value is not an object with a usable `_id`.
    """
    if not isinstance(value, dict):
        raise NotAnItemError("not a JSON object")
    item_id = value.get("_id")
    if not is_item_id(item_id):
        raise NotAnItemError("its _id is missing or malformed")
    return Item(
        item_id=str(item_id),
        updated_at=_read_time(value.get("updated_at")),
        line=compact(body),
        created_at=_read_time(value.get("created_at")),
    )


def read_items(body: bytes) -> list[Item | NotAnItemError]:
    """The items in a JSON array; an element that is not an item is returned as its error.

    Raises:
        NotJsonError: the body is not a JSON array.
    """
    found: list[Item | NotAnItemError] = []
    for value, text in read_array(body):
        try:
            found.append(as_item(value, text))
        except NotAnItemError as error:
            found.append(error)
    return found


def _read_time(value: object) -> datetime | None:
    """Dimmy's timestamps have no zone; they are UTC."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
