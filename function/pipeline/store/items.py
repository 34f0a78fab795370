"""Items: the result of one finished flow, as Dimmy's API returns it."""

import json
import re
from dataclasses import dataclass, field
from enum import Enum
from itertools import starmap

from pipeline.json_text import NotJsonError, check_depth, compact, read_array, read_json
from pipeline.store.timestamps import Timestamp, read_timestamp

# An untrusted id that has another form never becomes part of a path, a URL or an object name.
_ITEM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


_SHOWN_CHARACTERS = 60


class NotAnItemError(ValueError):
    """JSON, but not an item that can be stored; the text is the reason."""


class Order(Enum):
    """How the content of an item relates to the stored one."""

    NEWER = "newer"
    OLDER = "older"
    SAME_CONTENT = "same content"
    SAME_TIME = "same time, another content"
    UNKNOWN = "its updated_at cannot be read"


@dataclass(frozen=True, slots=True)
class Item:
    """One item.

    `line` is the item as received, on one line and without spaces between tokens; numbers, escapes
    and the order of keys are unchanged. A time is None where the item has none that can be read;
    `unreadable_time` then shows what its `updated_at` is.
    """

    item_id: str
    updated_at: Timestamp | None
    line: bytes = field(repr=False)
    created_at: Timestamp | None = None
    unreadable_time: str = ""

    def compare(self, stored: "Item") -> Order:
        """How this item relates to the stored one, by `updated_at`.

        A time that can be read is newer than one that cannot.
        """
        if self.line == stored.line:
            return Order.SAME_CONTENT
        if stored.updated_at is None:
            return Order.SAME_TIME if self.updated_at is None else Order.NEWER
        if self.updated_at is None:
            return Order.UNKNOWN
        difference = self.updated_at.compare(stored.updated_at)
        return {-1: Order.OLDER, 0: Order.SAME_TIME, 1: Order.NEWER}[difference]


def not_comparable_state(item: Item) -> str:
    """The state of an item that cannot be compared with the stored one."""
    return f"malformed: its updated_at is not a time: {item.unreadable_time}"


@dataclass(frozen=True, slots=True)
class MalformedItem:
    """An element of a page that is not an item; two of them are equal if their texts are."""

    reason: str
    text: bytes = field(repr=False)


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
    updated_at = read_timestamp(value.get("updated_at"))
    return Item(
        item_id=str(item_id),
        updated_at=updated_at,
        line=compact(body),
        created_at=read_timestamp(value.get("created_at")),
        unreadable_time="" if updated_at else _shown(value.get("updated_at")),
    )


def read_items(body: bytes) -> list[Item | MalformedItem]:
    """The items in a JSON array, and what is not an item among its elements.

    Raises:
        NotJsonError: the body is not a JSON array.
    """
    # starmap keeps no decoded element while the next one is decoded.
    return list(starmap(_read_element, read_array(body)))


def _read_element(value: object, text: bytes) -> Item | MalformedItem:
    try:
        check_depth(value)
        return as_item(value, text)
    except (NotAnItemError, NotJsonError) as error:
        return MalformedItem(str(error), text)


def _shown(value: object) -> str:
    """A value that is not a time, short enough for a receipt."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
