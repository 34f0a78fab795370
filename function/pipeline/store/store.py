"""The store: items, receipts and large bodies, in the storage layout of `pipeline.layout`.

Neither the order nor the number of writes of an item matters. The first write is one conditional
create; after that the newer `updated_at` wins, and a replacement names the version it replaces. So
of two simultaneous writers the one with the older item never wins. Of two contents with the same
`updated_at`, an answer of the API wins over the payload of an event, and a later answer over an
earlier one.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pipeline.json_text import NotJsonError, turn_to_decode
from pipeline.layout import checkpoint_name, item_name, payload_name, receipt_name
from pipeline.store.errors import ObjectNotFoundError, StorageError
from pipeline.store.items import Item, NotAnItemError, Order, read_item
from pipeline.store.objects import Objects, StoredObject
from pipeline.store.receipts import Receipt, ReceiptError
from pipeline.store.settings import StorageSettings

if TYPE_CHECKING:
    from obstore import UpdateVersion

CONFLICTS_ALLOWED = 50  # with other writers of the same object, before a write fails
# The time of a stored object is in whole seconds, and clocks differ a little.
CLOCK_UNCERTAINTY = timedelta(seconds=2)


class WriteResult(Enum):
    """The result of storing an item."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    NOT_COMPARABLE = "not comparable"  # another content is stored; its `updated_at` can be read
    FETCHED_TOO_EARLY = "fetched too early"  # the stored one may come from a later fetch


class PutResult(NamedTuple):
    """What a write has done, and the item that is stored now."""

    result: WriteResult
    stored: Item


class _StoredItem(NamedTuple):
    """An object, and the item in it; None where it was not written by this software."""

    object: StoredObject
    item: Item | None


class Store:
    """Items, receipts and large bodies below one storage URL.

    Storage is opened on first use. Safe to share between threads; every method raises StorageError.
    """

    def __init__(self, settings: StorageSettings) -> None:
        self._objects = Objects(settings)

    def put_item(
        self,
        item: Item,
        fetched_at: datetime | None = None,
        *,
        check_first: bool = False,
        before_write: Callable[[Item], None] | None = None,
    ) -> PutResult:
        """Store the item unless the stored one is the same or newer.

        `fetched_at` is when the request to the API began that has returned the item; None: it is
        the payload of an event. `check_first` reads before it writes, which costs less where most
        items already exist. `before_write` is called once, before the first attempt to write the
        item; what it raises prevents the write.
        """
        name = item_name(item.item_id)
        prepare = _once(before_write, item)
        if not check_first:
            prepare()
            if self._objects.create(name, item.line):
                return PutResult(WriteResult.CREATED, item)
        for _ in range(CONFLICTS_ALLOWED):
            found = self._find_item(name, item)
            if found and found.item:
                written_at = found.object.written_at
                stays = _why_stored_item_stays(item, fetched_at, found.item, written_at)
                if stays:
                    return PutResult(stays, found.item)
            prepare()
            if found is None and self._objects.create(name, item.line):
                return PutResult(WriteResult.CREATED, item)
            if found and self._objects.replace(name, item.line, found.object.version):
                return PutResult(WriteResult.REPLACED, item)
        raise _too_many_conflicts(name)

    def get_item(self, item_id: str) -> Item | None:
        """The stored item; None where there is none, or an object that is not an item."""
        found = self._find_item(item_name(item_id))
        return found.item if found else None

    def _find_item(self, name: str, expected: Item | None = None) -> _StoredItem | None:
        """The stored object of an item; None where there is none. The expected one is not decoded.

        An object that is not an item is read once more, because what arrived may be garbled.
        """
        for _ in range(2):
            try:
                stored = self._objects.get(name)
            except ObjectNotFoundError:
                return None
            if expected and stored.content == expected.line:
                return _StoredItem(stored, expected)
            with contextlib.suppress(NotJsonError, NotAnItemError), turn_to_decode(stored.content):
                return _StoredItem(stored, read_item(stored.content))
        return _StoredItem(stored, None)

    def get_receipt(self, event_id: str) -> Receipt | None:
        """The receipt of an event, or None where there is none yet."""
        try:
            return self._read_receipt(receipt_name(event_id))
        except ObjectNotFoundError:
            return None

    def put_receipt(self, receipt: Receipt, *, same_attempt: bool = False) -> Receipt:
        """Store the receipt, merged with the stored one; return the result with its version.

        A receipt that has a version is stored as it is, unless that version has been replaced.
        `same_attempt`: this attempt has stored a receipt before, so it is already counted.
        """
        name = receipt_name(receipt.event_id)
        merged = receipt
        for _ in range(CONFLICTS_ALLOWED):
            if version := self._write_receipt(name, merged):
                return replace(merged, version=version)
            try:
                merged = receipt.merged_with(self._read_receipt(name), same_attempt=same_attempt)
            except ObjectNotFoundError:
                merged = replace(receipt, version=None)
        raise _too_many_conflicts(name)

    def _write_receipt(self, name: str, receipt: Receipt) -> "UpdateVersion | None":
        """Create the object, or replace the receipt's version; None where another one is stored."""
        if receipt.version:
            return self._objects.replace(name, receipt.parts(), receipt.version)
        return self._objects.create(name, receipt.parts())

    def _read_receipt(self, name: str) -> Receipt:
        """The stored receipt without its payload, but with its version."""
        stored = self._objects.get(name)
        try:
            return replace(Receipt.read(stored.content), version=stored.version)
        except ReceiptError as error:
            raise StorageError(f"{name} cannot be read: {error}") from error

    def discard_items(self, event_id: str, item_ids: Iterable[str], note: str) -> Receipt:
        """Give up items of an event; return its receipt. `note` says who did it, and when.

        Raises:
            ObjectNotFoundError: the event has no receipt.
        """
        given_up = set(item_ids)

        def discard(receipt: Receipt) -> Receipt:
            found = [item_id for item_id in receipt.unsettled if item_id in given_up]
            return receipt.with_discarded(found, note)

        return self._change_receipt(event_id, discard)

    def mark_redriven(self, event_id: str) -> Receipt:
        """Note in the receipt of an event that it was among the dead letters; return the receipt.

        Raises:
            ObjectNotFoundError: the event has no receipt.
        """
        return self._change_receipt(event_id, lambda receipt: replace(receipt, redriven=True))

    def _change_receipt(self, event_id: str, change: Callable[[Receipt], Receipt]) -> Receipt:
        """Replace the receipt of an event, with its payload, by another one; return that."""
        name = receipt_name(event_id)
        for _ in range(CONFLICTS_ALLOWED):
            stored = self._objects.get(name)
            try:
                changed = change(Receipt.read_with_payload(stored.content))
            except ReceiptError as error:
                raise StorageError(f"{name} cannot be read: {error}") from error
            if self._objects.replace(name, changed.parts(), stored.version):
                return changed
        raise _too_many_conflicts(name)

    def get_payload(self, event_id: str) -> bytes:
        """The body of an event that was too large for a message."""
        return self._objects.get(payload_name(event_id)).content

    def get_checkpoint(self, window: str) -> bytes | None:
        """How far the reconcile of a window is, or None where there is nothing to go on from."""
        try:
            return self._objects.get(checkpoint_name(window)).content
        except ObjectNotFoundError:
            return None

    def put_checkpoint(self, window: str, content: bytes) -> None:
        """Store how far the reconcile of a window is."""
        self._objects.overwrite(checkpoint_name(window), content)

    def delete_checkpoint(self, window: str) -> None:
        """The reconcile of a window is done."""
        self._objects.delete(checkpoint_name(window))

    async def put_payload(self, event_id: str, body: bytes) -> None:
        """Store the body of an event. A resend writes it again, which renews its lifetime."""
        await self._objects.overwrite_async(payload_name(event_id), body)


def _why_stored_item_stays(
    item: Item, fetched_at: datetime | None, stored: Item, written_at: datetime
) -> WriteResult | None:
    """None where the item replaces the stored one."""
    match item.compare(stored):
        case Order.NEWER:
            return None
        case Order.SAME_CONTENT | Order.OLDER:
            return WriteResult.UNCHANGED
        case Order.UNKNOWN:
            return WriteResult.NOT_COMPARABLE
        case Order.SAME_TIME:
            if fetched_at is None:
                return WriteResult.UNCHANGED
            is_latest = fetched_at > written_at + CLOCK_UNCERTAINTY
            return None if is_latest else WriteResult.FETCHED_TOO_EARLY


def _once(call: Callable[[Item], None] | None, item: Item) -> Callable[[], None]:
    """A function of which only the first call does anything."""
    calls = iter([call] if call else [])

    def call_once() -> None:
        for first in calls:
            first(item)

    return call_once


def _too_many_conflicts(name: str) -> StorageError:
    return StorageError(f"{name}: too many other writers changed it at the same time")
