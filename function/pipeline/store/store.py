"""The store: items, receipts and large bodies, in the storage layout of `pipeline.layout`.

Neither the order nor the number of writes of an item matters. The first write is one conditional
create; after that the newer `updated_at` wins, and a replacement names the version it replaces. So
of two simultaneous writers the one with the older item never wins.
"""

from enum import Enum

from pipeline.json_text import NotJsonError
from pipeline.layout import item_name, payload_name, receipt_name
from pipeline.store.errors import ObjectNotFoundError, StorageError
from pipeline.store.items import Item, NotAnItemError, read_item
from pipeline.store.objects import Objects
from pipeline.store.receipts import Receipt, ReceiptError
from pipeline.store.settings import StorageSettings

CONFLICTS_ALLOWED = 50  # with other writers of the same object, before a write fails


class WriteResult(Enum):
    """The result of storing an item."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


class Store:
    """Items, receipts and large bodies below one storage URL.

    Storage is opened on first use. Safe to share between threads; every method raises StorageError.
    """

    def __init__(self, settings: StorageSettings) -> None:
        self._objects = Objects(settings)

    def put_item(self, item: Item, *, check_first: bool = False) -> WriteResult:
        """Store the item unless the stored one is as new.

        `check_first` reads before it writes, which costs less where most items already exist.
        """
        name = item_name(item.item_id)
        if not check_first and self._objects.create(name, item.line):
            return WriteResult.CREATED
        for _ in range(CONFLICTS_ALLOWED):
            try:
                stored = self._objects.get(name)
            except ObjectNotFoundError:
                if self._objects.create(name, item.line):
                    return WriteResult.CREATED
                continue
            if not item.is_newer_than(_stored_item(item.item_id, stored.content)):
                return WriteResult.UNCHANGED
            if self._objects.replace(name, item.line, stored):
                return WriteResult.REPLACED
        raise _too_many_conflicts(name)

    def get_receipt(self, event_id: str) -> Receipt | None:
        """The receipt of an event, or None where there is none yet."""
        try:
            stored = self._objects.get(receipt_name(event_id))
        except ObjectNotFoundError:
            return None
        return _stored_receipt(event_id, stored.content)

    def put_receipt(self, receipt: Receipt, *, same_attempt: bool = False) -> Receipt:
        """Store the receipt, merged with the stored one; return the result.

        `same_attempt`: this attempt has stored a receipt before, so it is already counted.
        """
        name = receipt_name(receipt.event_id)
        if self._objects.create(name, receipt.line()):
            return receipt
        for _ in range(CONFLICTS_ALLOWED):
            stored = self._objects.get(name)
            earlier = _stored_receipt(receipt.event_id, stored.content)
            merged = receipt.merged_with(earlier, same_attempt=same_attempt)
            if self._objects.replace(name, merged.line(), stored):
                return merged
        raise _too_many_conflicts(name)

    def get_payload(self, event_id: str) -> bytes:
        """The body of an event that was too large for a message."""
        return self._objects.get(payload_name(event_id)).content

    async def put_payload(self, event_id: str, body: bytes) -> None:
        """Store the body of an event. It never changes, so the first one stays."""
        await self._objects.create_async(payload_name(event_id), body)


def _stored_item(item_id: str, content: bytes) -> Item:
    try:
        return read_item(content)
    except (NotJsonError, NotAnItemError):
        # Not written by this software. Any item replaces it.
        return Item(item_id, None, content)


def _stored_receipt(event_id: str, content: bytes) -> Receipt:
    try:
        return Receipt.read(content)
    except ReceiptError as error:
        raise StorageError(f"{receipt_name(event_id)} cannot be read: {error}") from error


def _too_many_conflicts(name: str) -> StorageError:
    return StorageError(f"{name}: too many other writers changed it at the same time")
