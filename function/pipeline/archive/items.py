"""Reads the item that a message of the items topic announces."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pipeline.archive.photos import Photo, photos_of
from pipeline.json_text import NotJsonError, read_json, turn_to_decode
from pipeline.layout import item_name
from pipeline.store.errors import StorageError
from pipeline.store.items import is_item_id
from pipeline.store.objects import Objects
from pipeline.store.timestamps import Timestamp, read_timestamp

# A stored item may have 32 MiB, so one at a time is in memory. Always in the same thread, because
# each thread keeps much of what it has freed.
_reader_of_stored_items = ThreadPoolExecutor(1, thread_name_prefix="stored-items")


class MessageError(ValueError):
    """The data is not a message of the items topic; the text is why."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """An item that a message announces; `line` is None where the item was too large for it."""

    item_id: str
    updated_at: Timestamp | None
    event_id: str | None
    line: bytes | None = field(repr=False)


def read_announcement(data: bytes) -> Announcement:
    """The item in the data of a message, whose format is that of `ItemMessage`.

    Raises:
        MessageError: it has another format.
    """
    try:
        value = read_json(data)
    except NotJsonError as error:
        raise MessageError(f"the data is {error}") from error
    if not isinstance(value, dict) or not is_item_id(value.get("item_id")):
        raise MessageError("the data has no item_id, or one that is malformed")
    line, event_id = value.get("item"), value.get("event_id")
    if not isinstance(line, str | None):
        raise MessageError("item is not a text")
    return Announcement(
        item_id=value["item_id"],
        updated_at=read_timestamp(value.get("updated_at")),
        event_id=event_id if isinstance(event_id, str) else None,
        line=None if line is None else line.encode(errors="surrogatepass"),
    )


def read_photos(announcement: Announcement, objects: Objects) -> Sequence[Photo]:
    """The photos of the item; where the message does not contain it, of the stored one.

    Raises:
        StorageError: the stored item cannot be read, or is older: reconcile announces before it
            writes.
        MessageError: it is not an item.
    """
    if announcement.line is not None:
        return _read_photos(announcement.line, announcement, is_stored=False)

    def read() -> Sequence[Photo]:
        line = objects.get(item_name(announcement.item_id)).content
        return _read_photos(line, announcement, is_stored=True)

    return _reader_of_stored_items.submit(read).result()


def _read_photos(line: bytes, announcement: Announcement, *, is_stored: bool) -> Sequence[Photo]:
    with turn_to_decode(line):
        try:
            item = read_json(line)
        except NotJsonError as error:
            raise MessageError(f"the item is {error}") from error
        if not isinstance(item, dict):
            raise MessageError("the item is not a JSON object")
        if is_stored and _is_older(item, announcement):
            raise StorageError("the announced version of the item is not stored yet")
        return photos_of(item)


def _is_older(item: Mapping[str, Any], announcement: Announcement) -> bool:
    stored, announced = read_timestamp(item.get("updated_at")), announcement.updated_at
    return announced is not None and (stored is None or stored.compare(announced) < 0)
