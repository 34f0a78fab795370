"""Items: what Dimmy's API returns for one finished flow, read without being changed."""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

# Opaque to us, but untrusted: what is not of this form becomes neither a path nor an object name.
_ITEM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

_DECODER = json.JSONDecoder()
_SPACE_AND_BRACKET = re.compile(r"\s*\[\s*")
_SPACE_AND_COMMA = re.compile(r"\s*,?\s*")

# Either tokens, strings among them, in one long run, or the white space between two of them.
_TOKENS_OR_SPACE = re.compile(r'((?:[^" \t\r\n]++|"(?:[^"\\]++|\\.)*+")++)|[ \t\r\n]++')


class NotJsonError(ValueError):
    """The text is not JSON (RFC 8259), or nested too deeply to be read."""


class NotAnItemError(ValueError):
    """JSON, but not an item that can be stored; the text says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item.

    `line` is the item as given, on one line and without the spaces between tokens: numbers, escapes
    and the order of keys stay as they were written. The times are None where the item has none that
    can be read.
    """

    item_id: str
    updated_at: datetime | None
    line: bytes = field(repr=False)
    created_at: datetime | None = None

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
    return Item(
        item_id=str(item_id),
        updated_at=_read_time(value.get("updated_at")),
        line=one_line(body),
        created_at=_read_time(value.get("created_at")),
    )


def read_items(body: bytes) -> list[Item | NotAnItemError]:
    """The items in a body that is a JSON array, each as it is written there, or why it is none.

    Raises:
        NotJsonError: the body is no JSON array.
    """
    read_json(body)
    text = body.decode("utf-8")
    found: list[Item | NotAnItemError] = []
    position = _SPACE_AND_BRACKET.match(text)
    if position is None:
        raise NotJsonError("not JSON: not an array")
    start = position.end()
    while text[start] != "]":
        value, end = _DECODER.raw_decode(text, start)
        try:
            found.append(as_item(value, text[start:end].encode("utf-8")))
        except NotAnItemError as error:
            found.append(error)
        start = _SPACE_AND_COMMA.match(text, end).end()  # type: ignore[union-attr]
    return found


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
    return _TOKENS_OR_SPACE.sub(r"\1", body.decode("utf-8")).encode("utf-8")


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
