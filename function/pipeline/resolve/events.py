"""Recognises events by the shape of their body, because nothing else names their type."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pipeline.json_text import NotJsonError, read_json
from pipeline.store.items import Item, NotAnItemError, as_item, is_item_id
from pipeline.store.receipts import Kind

_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class ItemsScanned:
    """`items.scanned`: the ids to fetch, without duplicates, and why other values are not ids."""

    kind: ClassVar[Kind] = "items.scanned"
    is_json: ClassVar[bool] = True
    item_ids: tuple[str, ...]
    malformed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FullPayload:
    """`item.scanned.full_payload`: the item itself, or why the body is not one."""

    kind: ClassVar[Kind] = "item.scanned.full_payload"
    is_json: ClassVar[bool] = True
    item: Item | None
    malformed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """Authentic, but of no known shape: kept in its receipt."""

    kind: ClassVar[Kind] = "unrecognised"
    is_json: bool


Event = ItemsScanned | FullPayload | Unrecognised


def recognise(body: bytes) -> Event:
    """The event in a body: an object with a list `item_ids`, an object with `_id`, or neither."""
    try:
        value = read_json(body)
    except NotJsonError:
        return Unrecognised(is_json=False)
    if not isinstance(value, dict):
        return Unrecognised(is_json=True)
    if isinstance(value.get("item_ids"), list):
        return _items_scanned(value["item_ids"])
    if "_id" in value:
        try:
            return FullPayload(as_item(value, body), {})
        except NotAnItemError as error:
            return FullPayload(None, {_shown(value["_id"]): f"malformed: {error}"})
    return Unrecognised(is_json=True)


def _items_scanned(values: list[object]) -> ItemsScanned:
    item_ids: dict[str, None] = {}
    malformed: dict[str, str] = {}
    for value in values:
        if is_item_id(value):
            item_ids[str(value)] = None
        else:
            malformed[_shown(value)] = "malformed: not an item id"
    return ItemsScanned(tuple(item_ids), malformed)


def _shown(value: object) -> str:
    """A name for a value that is not an id, short enough for a receipt."""
    text = value if isinstance(value, str) else f"{json.dumps(value)} (not a string)"
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"
