"""What lies in storage, kept in memory: items to search in, and the receipts that named them."""

import contextlib
import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import GCSStore, LocalStore

from pipeline.store.receipts import Receipt, ReceiptError
from sandbox.view.scan import Summary, read_summary

if TYPE_CHECKING:
    from obstore import ObjectMeta

T = TypeVar("T")

_READERS = 16
_SHOW_EVERY_SECONDS = 0.5  # while much is read
# What is written within so short a time after a look may leave a folder's time as it was.
_COARSE_SECONDS = 2.0


class UnreadableError(Exception):
    """Storage cannot be read; the text says what it answered."""


class Index:
    """The newest objects of a folder or a bucket, `most` items and as many receipts.

    `refresh` blocks, in a thread of its own if need be; what it has read can be seen meanwhile.
    """

    def __init__(self, objects: LocalStore | GCSStore, most: int) -> None:
        self._items = _Shelf(objects, "items", most, read_summary)
        self._receipts = _Shelf(objects, "events", most, _read_receipt)
        self._newest_first: tuple[Summary, ...] = ()
        self._named_by: Mapping[str, list[str]] = {}
        self._changed: Callable[[], None] = lambda: None
        self._shown = 0.0

    def refresh(self, changed: Callable[[], None] = lambda: None) -> None:
        """Read what is new since the last time; `changed` is called whenever more can be seen.

        Raises:
            UnreadableError: storage refuses, or cannot be reached.
        """
        self._changed, self._shown = changed, time.monotonic()
        with _unreadable():
            has_new_items = self._items.refresh(self._show_now_and_then)
            has_new_receipts = self._receipts.refresh(self._show_now_and_then)
            if has_new_items or has_new_receipts:
                self._show()

    def search(self, text: str, most: int) -> tuple[list[Summary], int]:
        """The newest items with all the words, at most so many, and how many there are in all.

        A word is part of a barcode, a flow, an answer or an id: the item's, or that of an event
        which named it.
        """
        words = text.casefold().split()
        found = [summary for summary in self._newest_first if self._has(summary, words)]
        return found[:most], len(found)

    @property
    def count(self) -> int:
        """How many items there are to search in."""
        return len(self._newest_first)

    @property
    def unread(self) -> int:
        """How many objects have still to be read."""
        return self._items.unread + self._receipts.unread

    @property
    def left_out(self) -> int:
        """How many older items there are."""
        return self._items.left_out

    def item(self, name: str) -> tuple[bytes, datetime] | None:
        """An item as it lies there now, and since when.

        Raises:
            UnreadableError: storage refuses, or cannot be reached.
        """
        return self._items.get(name)

    def receipt(self, event_id: str) -> bytes | None:
        """A receipt as it lies there now."""
        found = self._receipts.get(event_id)
        return found[0] if found else None

    def receipts_of(self, name: str) -> list[Receipt]:
        """Those of the events that named an item, newest first."""
        receipts = self._receipts.values
        found = [receipts[each] for each in self._named_by.get(name, []) if each in receipts]
        return sorted(found, key=lambda receipt: receipt.received_at, reverse=True)

    def is_finished(self, event_id: str) -> bool:
        """Whether all items of an event are in storage."""
        receipt = self._receipts.values.get(event_id)
        return receipt is not None and receipt.outcome != "partial"

    def given_up(self, attempts: int) -> set[str]:
        """The events that are unfinished after so many attempts."""
        receipts = self._receipts.values.values()
        return {
            receipt.event_id
            for receipt in list(receipts)
            if receipt.outcome == "partial" and receipt.attempts >= attempts
        }

    def _has(self, summary: Summary, words: list[str]) -> bool:
        return all(
            word in summary.text
            or any(word in event_id.casefold() for event_id in self._named_by.get(summary.name, []))
            for word in words
        )

    def _show_now_and_then(self) -> None:
        if time.monotonic() - self._shown > _SHOW_EVERY_SECONDS:
            self._show()

    def _show(self) -> None:
        summaries = self._items.values.values()
        self._newest_first = tuple(sorted(summaries, key=lambda s: (s.time, s.name), reverse=True))
        named_by = defaultdict(list)
        for receipt in self._receipts.values.values():
            for name in receipt.items:
                named_by[name].append(receipt.event_id)
        self._named_by = named_by
        self._shown = time.monotonic()
        self._changed()


class _Known(NamedTuple):
    """An object that has been listed."""

    path: str
    stored: datetime
    version: tuple[object, ...]


class _Shelf(Generic[T]):
    """The newest objects below one prefix, each read once in each of its versions.

    `read` makes a value of a name, a body and the time of storing; None: it is nothing of ours.
    """

    def __init__(
        self,
        objects: LocalStore | GCSStore,
        prefix: str,
        most: int,
        read: Callable[[str, bytes, datetime], T | None],
    ) -> None:
        self.values: dict[str, T] = {}
        self.unread = 0
        self.left_out = 0
        self._objects = objects
        self._prefix = prefix
        self._most = most
        self._read = read
        self._known: dict[str, _Known] = {}
        self._unchanged_since: float | None = None  # a folder's time, once it can be relied on

    def refresh(self, one_more: Callable[[], None]) -> bool:
        """Read what is new or newer, forget what is gone; return whether there was any of it."""
        looked, changed = time.time(), self._changed_at()
        if changed is not None and changed == self._unchanged_since:
            return False
        has_changed = self._read_what_is_new(one_more)
        is_reliable = changed is not None and looked - changed > _COARSE_SECONDS
        self._unchanged_since = changed if is_reliable else None
        return has_changed

    def _changed_at(self) -> float | None:
        """When a folder changed last, which spares a look at each of its files."""
        if not isinstance(self._objects, LocalStore):
            return None
        folder = Path(str(self._objects.prefix)) / self._prefix
        return folder.stat().st_mtime if folder.exists() else None

    def _read_what_is_new(self, one_more: Callable[[], None]) -> bool:
        listed = {_name(meta["path"]): meta for meta in self._newest()}
        gone = self._known.keys() - listed.keys()
        for name in gone:
            del self._known[name]
            self.values.pop(name, None)
        work = [
            (name, _Known(meta["path"], meta["last_modified"], _version(meta)))
            for name, meta in listed.items()
            if name not in self._known or self._known[name].version != _version(meta)
        ]
        self.unread = len(work)
        with ThreadPoolExecutor(_READERS) as readers:
            bodies = readers.map(lambda job: self._get(job[1].path), work)
            for (name, known), body in zip(work, bodies, strict=True):
                self.unread -= 1
                value = None if body is None else self._read(name, body, known.stored)
                if value is not None:
                    self.values[name] = value
                self._known[name] = known
                one_more()
        return bool(work or gone)

    def get(self, name: str) -> tuple[bytes, datetime] | None:
        """An object that has been listed, as it is now. Names of others lead nowhere."""
        known = self._known.get(name)
        if known is None:
            return None
        with _unreadable():
            body = self._get(known.path)
        return None if body is None else (body, known.stored)

    def _newest(self) -> list["ObjectMeta"]:
        count = 0

        def listed() -> Iterator["ObjectMeta"]:
            nonlocal count
            for page in obstore.list(self._objects, self._prefix, chunk_size=1000):
                for meta in page:
                    if meta["path"].endswith(".json"):
                        count += 1
                        yield meta

        newest = heapq.nlargest(self._most, listed(), key=lambda meta: meta["last_modified"])
        self.left_out = count - len(newest)
        return newest

    def _get(self, path: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._objects, path).bytes())
        except FileNotFoundError:
            return None  # gone since it was listed


@contextlib.contextmanager
def _unreadable() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableError(first_line) from error


def _name(path: str) -> str:
    return path.partition("/")[2].removesuffix(".json")


def _version(meta: "ObjectMeta") -> tuple[object, ...]:
    return meta["e_tag"], meta["version"], meta["last_modified"], meta["size"]


def _read_receipt(_name: str, body: bytes, _stored: datetime) -> Receipt | None:
    try:
        return Receipt.read(body)
    except ReceiptError:
        return None  # put there by hand; the page of an item that it names does without
