"""Keeps the stored items in memory to search them, with the receipts that name them."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

import obstore
from obstore.store import GCSStore, LocalStore

from operate.installation import open_objects
from operate.object_listing import Listed, ObjectListing
from operate.time_ordered_ids import first_event_id, first_item_id
from operate.view.events import Receipts
from operate.view.newest import Newest
from operate.view.scan import Summary, read_summary
from operate.view.storage_errors import unreadable
from pipeline.layout import ITEMS, RECEIPTS
from pipeline.store.receipts import Receipt, ReceiptError
from pipeline.store.settings import StorageSettings
from pipeline.store.timestamps import read_timestamp

T = TypeVar("T")

_READERS = 16
_PUBLISH_INTERVAL_SECONDS = 0.5  # while many objects are read
# A file written within this time after a listing may leave the folder's time unchanged.
_COARSE_SECONDS = 2.0


class Index:
    """The newest objects of a folder or a bucket: at most `limit` items and as many receipts.

    A bucket may have millions, so its newest ones are found by the times in their names. `refresh`
    blocks and may run in another thread; what it has read can be searched at once.
    """

    def __init__(self, settings: StorageSettings, limit: int) -> None:
        storage, self._listing = open_objects(settings), ObjectListing(settings)
        items = Newest(self._listing, f"{ITEMS}/", first_item_id, limit)
        receipts = Newest(self._listing, f"{RECEIPTS}/", first_event_id, limit)
        self._items = _Folder(storage, items, read_summary)
        self._receipts = _Folder(storage, receipts, _read_receipt)
        self._newest_first: tuple[Summary, ...] = ()
        self._events_of: Mapping[str, list[str]] = {}
        # Until receipts were read, nothing follows from a missing one.
        self._read_receipts = Receipts(since=datetime.max.replace(tzinfo=UTC))
        self._on_change: Callable[[], None] = lambda: None
        self._published_at = 0.0

    def refresh(self, on_change: Callable[[], None] = lambda: None) -> None:
        """Read what is new since the last time; `on_change` is called after every change.

        Raises:
            UnreadableError: storage refuses, or cannot be reached.
        """
        self._on_change, self._published_at = on_change, time.monotonic()
        with unreadable():
            has_new_items = self._items.refresh(self._publish_if_due)
            has_new_receipts = self._receipts.refresh(self._publish_if_due)
            if has_new_items or has_new_receipts:
                self._publish()

    def search(self, text: str, limit: int) -> tuple[list[Summary], int]:
        """The newest items that contain all words, at most `limit`, and the number of all of them.

        A word is part of a barcode, a flow, an answer, the item's id or the id of an event that
        named the item.
        """
        words = text.casefold().split()
        found = [summary for summary in self._newest_first if self._has(summary, words)]
        return found[:limit], len(found)

    @property
    def count(self) -> int:
        """The number of items in the index."""
        return len(self._newest_first)

    @property
    def unread(self) -> int:
        """The number of objects that have not been read yet."""
        return self._items.unread + self._receipts.unread

    @property
    def left_out(self) -> int:
        """The number of older items, which are not in the index."""
        return self._items.newest.left_out

    @property
    def is_cut(self) -> bool:
        """Whether there are older items, which are not in the index."""
        return self._items.newest.is_cut

    @property
    def since(self) -> datetime | None:
        """The time from which on items are in the index; None for all of them."""
        return self._items.newest.since

    @property
    def problem(self) -> str:
        """What could not be listed, for people; empty if nothing."""
        return self._listing.describe_odd_names()

    def has(self, name: str) -> bool:
        """Whether there is an item of this name."""
        return name in self._items.values

    def item(self, name: str) -> tuple[bytes, datetime] | None:
        """An item as it is stored now, and the time when it was stored.

        Raises:
            UnreadableError: storage refuses, or cannot be reached.
        """
        return self._items.get(name)

    def receipt(self, event_id: str) -> bytes | None:
        """A receipt as it is stored now."""
        found = self._receipts.get(event_id)
        return found[0] if found else None

    @property
    def receipts(self) -> Receipts:
        """The receipts that have been read."""
        return self._read_receipts

    def version_of_receipt(self, event_id: str) -> object:
        """Changes with each version of a receipt."""
        return self._receipts.version_of(event_id)

    def receipts_of(self, name: str) -> list[Receipt]:
        """The receipts of the events that named an item, newest first."""
        receipts = self._receipts.values
        found = [receipts[each] for each in self._events_of.get(name, []) if each in receipts]
        return sorted(found, key=lambda receipt: receipt.received_at, reverse=True)

    def _has(self, summary: Summary, words: list[str]) -> bool:
        return all(
            word in summary.text
            or any(
                word in event_id.casefold() for event_id in self._events_of.get(summary.name, [])
            )
            for word in words
        )

    def _publish_if_due(self) -> None:
        if time.monotonic() - self._published_at > _PUBLISH_INTERVAL_SECONDS:
            self._publish()

    def _publish(self) -> None:
        """Make what has been read visible to searches."""
        summaries = self._items.values.values()
        self._newest_first = tuple(sorted(summaries, key=lambda s: (s.time, s.name), reverse=True))
        receipts = dict(self._receipts.values)
        events_of = defaultdict(list)
        for receipt in receipts.values():
            for name in receipt.items:
                events_of[name].append(receipt.event_id)
        self._events_of = events_of
        self._read_receipts = Receipts(receipts, self._receipts_since(receipts))
        self._published_at = time.monotonic()
        self._on_change()

    def _receipts_since(self, receipts: Mapping[str, Receipt]) -> datetime | None:
        """The time from which on events have their receipts among these; None for all."""
        if self._receipts.unread:
            return datetime.max.replace(tzinfo=UTC)
        if not (self._receipts.newest.is_cut or self._receipts.newest.since):
            return None
        times = (read_timestamp(receipt.received_at) for receipt in receipts.values())
        return min((each.datetime for each in times if each), default=self._receipts.newest.since)


class _Folder(Generic[T]):
    """The newest objects below one prefix. Each version of an object is read once.

    `read` turns a name, a body and the time of storing into a value, or None if it cannot be used.
    """

    def __init__(
        self,
        storage: LocalStore | GCSStore,
        newest: Newest,
        read: Callable[[str, bytes, datetime], T | None],
    ) -> None:
        self.values: dict[str, T] = {}
        self.unread = 0
        self.newest = newest
        self._storage = storage
        self._read = read
        self._listed: dict[str, Listed] = {}
        self._unchanged_since: float | None = None  # the folder's time, once it is reliable

    def refresh(self, on_object: Callable[[], None]) -> bool:
        """Read new and changed objects, drop deleted ones; return whether anything changed."""
        listed_at, changed = time.time(), self._changed_at()
        if changed is not None and changed == self._unchanged_since:
            return False
        has_changed = self._read_new(on_object)
        is_reliable = changed is not None and listed_at - changed > _COARSE_SECONDS
        self._unchanged_since = changed if is_reliable else None
        return has_changed

    def _changed_at(self) -> float | None:
        """When a folder changed last, so that an unchanged one need not be listed."""
        if not isinstance(self._storage, LocalStore):
            return None
        folder = Path(str(self._storage.prefix)) / self.newest.prefix
        return folder.stat().st_mtime if folder.exists() else None

    def _read_new(self, on_object: Callable[[], None]) -> bool:
        has_changed = False
        newest: dict[str, Listed] = {}
        for found in self.newest.find():
            newest = {_name(each.name): each for each in found}
            has_changed |= self._read_unread(newest, on_object)
        deleted = self._listed.keys() - newest.keys()
        for name in deleted:
            del self._listed[name]
            self.values.pop(name, None)
        return has_changed or bool(deleted)

    def _read_unread(self, newest: Mapping[str, Listed], on_object: Callable[[], None]) -> bool:
        """Read those that are new or have changed; return whether there were any."""
        unread = [
            (name, listed)
            for name, listed in newest.items()
            if name not in self._listed or self._listed[name].version != listed.version
        ]
        self.unread = len(unread)
        with ThreadPoolExecutor(_READERS) as readers:
            bodies = readers.map(lambda job: self._read_object(job[1].name), unread)
            for (name, listed), body in zip(unread, bodies, strict=True):
                self.unread -= 1
                value = None if body is None else self._read(name, body, listed.written_at)
                if value is not None:
                    self.values[name] = value
                self._listed[name] = listed
                on_object()
        return bool(unread)

    def version_of(self, name: str) -> object:
        """Changes with each version of an object; None where there is none."""
        listed = self._listed.get(name)
        return listed.version if listed else None

    def get(self, name: str) -> tuple[bytes, datetime] | None:
        """An object of the latest listing, as it is now; None for any other name."""
        listed = self._listed.get(name)
        if listed is None:
            return None
        with unreadable():
            body = self._read_object(listed.name)
        return None if body is None else (body, listed.written_at)

    def _read_object(self, path: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._storage, path).bytes())
        except FileNotFoundError:
            return None  # deleted since it was listed


def _name(path: str) -> str:
    return path.partition("/")[2].removesuffix(".json")


def _read_receipt(_name: str, body: bytes, _stored: datetime) -> Receipt | None:
    try:
        return Receipt.read(body)
    except ReceiptError:
        return None  # not written by this software
