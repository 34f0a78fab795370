"""Items: what Dimmy's API returns for one finished flow, read without being changed."""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

# Opaque to us, but untrusted: what is not of this form becomes neither a path nor an object name.
_ITEM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

_STRING_OR_SPACE = re.compile(r'("(?:[^"\\]|\\.)*+")|[ \t\r\n]+')


class NotJsonError(ValueError):
    """The text is not JSON (RFC 8259), or nested too deeply to be read."""


class NotAnItemError(ValueError):
    """JSON, but not an item that can be stored; the text says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item.

    `line` is the item as given, on one line and without the spaces between tokens: numbers, escapes
    and the order of keys stay as they were written. `updated_at` is None where the item has none
    that can be read.
    """

    item_id: str
    updated_at: datetime | None
    line: bytes = field(repr=False)

    def is_newer_than(self, stored: "Item") -> bool:
        """Whether this one replaces the stored one.

        The newer `updated_at` wins, a tie changes nothing, and a readable time wins over none.
        """
        if self.line == stored.line:
            return False
        if self.updated_at is None or stored.updated_at is None:
            return stored.updated_at is None
        return self.updated_at > stored.updated_at


def is_item_id(value: object) -> bool:
    """Whether the value can serve as an item's id: letters, digits, `_` and `-`, at most 128."""
    return isinstance(value, str) and _ITEM_ID.fullmatch(value) is not None


def read_item(body: bytes) -> Item:
    """The item in a body of JSON.

    Raises:
        NotJsonError: the body is not JSON.
        NotAnItemError: it is no object with a usable `_id`.
    """
    return as_item(read_json(body), body)


def as_item(value: object, body: bytes) -> Item:
    """The item of an already decoded value and the body it came from.

    Raises:
        NotAnItemError: the value is no object with a usable `_id`.
    """
    if not isinstance(value, dict):
        raise NotAnItemError("not a JSON object")
    item_id = value.get("_id")
    if not is_item_id(item_id):
        raise NotAnItemError("its _id is missing or malformed")
    return Item(str(item_id), _read_time(value.get("updated_at")), one_line(body))


def read_json(body: bytes) -> Any:
    """The value of a body of JSON in UTF-8.

    Raises:
        NotJsonError: it is something else.
    """
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise NotJsonError(f"not JSON: {error}") from error


def one_line(body: bytes) -> bytes:
    """The same JSON without white space between its tokens. The body must be valid JSON."""
    return _STRING_OR_SPACE.sub(r"\1", body.decode("utf-8")).encode("utf-8")


def _read_time(value: object) -> datetime | None:
    """Dimmy's timestamps carry no zone; they are UTC."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
