"""Storage: items, receipts and large payloads, in a bucket (gs://) or a folder (file://).

Items are written so that neither order nor repetition matters: the first write is one conditional
create; after that the newer `updated_at` wins, and every replacement names the version it replaces,
so that of two writers the one with the older item can never have the last word.
"""

import asyncio
import contextlib
import fcntl
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import GCSStore, LocalStore

from items import Item, NotAnItemError, NotJsonError, read_item
from receipts import Receipt, ReceiptError
from settings import StorageSettings

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion
    from obstore.store import GCSConfig

_ROUNDS = 50  # conflicts with other writers of the same object before a write gives up


class StorageError(Exception):
    """Storage refused, or could not be reached. The object is unchanged, or whole."""


class NotThereError(StorageError):
    """There is no such object."""


class Written(Enum):
    """What became of an item."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


def payload_name(event_id: str) -> str:
    """The object that holds the body of an event too large for a message."""
    return f"payloads/{event_id}"


def open_objects(settings: StorageSettings) -> LocalStore | GCSStore:
    """The folder (made where there is none) or the bucket itself."""
    if settings.url.startswith("file://"):
        return LocalStore(settings.url.removeprefix("file://"), mkdir=True)
    emulator: GCSConfig = {}
    if settings.emulator_url:
        emulator = {"base_url": settings.emulator_url, "bearer_token": "emulator"}
    return GCSStore.from_url(
        settings.url,
        config=emulator,
        client_options={
            "timeout": "20s",
            "connect_timeout": "5s",
            "allow_http": bool(settings.emulator_url),
        },
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=20)},
    )


class Store:
    """The storage layout of the design: `items/`, `events/` and `payloads/` below one URL.

    Opens on first use. Safe to share between threads; every method raises StorageError.
    """

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings
        self._url = settings.url

    def put_item(self, item: Item, *, probably_there: bool = False) -> Written:
        """Store the item unless the stored one is as new.

        `probably_there` looks before it writes, which costs less where most are there already.
        """
        path = _item_path(item.item_id)
        if not probably_there and self._create(path, item.line):
            return Written.CREATED
        for _ in range(_ROUNDS):
            try:
                stored = self._get(path)
            except NotThereError:
                if self._create(path, item.line):
                    return Written.CREATED
                continue
            if not item.is_newer_than(_stored_item(item.item_id, stored.content)):
                return Written.UNCHANGED
            if self._replace(path, item.line, stored):
                return Written.REPLACED
        raise StorageError(f"{path}: too many others wrote to it at the same time")

    def get_receipt(self, event_id: str) -> Receipt | None:
        """The receipt of an event, or None where there is none yet."""
        try:
            stored = self._get(_receipt_path(event_id))
        except NotThereError:
            return None
        return _stored_receipt(event_id, stored.content)

    def put_receipt(self, receipt: Receipt, *, same_attempt: bool = False) -> Receipt:
        """Store the receipt, joined with what has been written before; return the result.

        `same_attempt` says that this attempt has written one already, and is counted.
        """
        path = _receipt_path(receipt.event_id)
        if self._create(path, receipt.line()):
            return receipt
        for _ in range(_ROUNDS):
            stored = self._get(path)
            earlier = _stored_receipt(receipt.event_id, stored.content)
            joined = receipt.after(earlier, same_attempt=same_attempt)
            if self._replace(path, joined.line(), stored):
                return joined
        raise StorageError(f"{path}: too many others wrote to it at the same time")

    def get_payload(self, event_id: str) -> bytes:
        """The body of an event that was too large for a message."""
        return self._get(payload_name(event_id)).content

    async def put_payload(self, event_id: str, body: bytes) -> None:
        """Keep the body of an event. An event's body never changes, so the first one stays."""
        with _storage_errors(payload_name(event_id)):
            opened = await asyncio.to_thread(lambda: self._opened)
            with contextlib.suppress(AlreadyExistsError):
                await obstore.put_async(opened, payload_name(event_id), body, mode="create")

    @functools.cached_property
    def _opened(self) -> LocalStore | GCSStore:
        return open_objects(self._settings)

    @property
    def _folder(self) -> Path:
        return Path(self._url.removeprefix("file://"))

    def _create(self, path: str, content: bytes) -> bool:
        """Whether the object was created; False where there is one already."""
        return self._put(path, content, "create")

    def _replace(self, path: str, content: bytes, stored: "_Stored") -> bool:
        """Whether just what was read is replaced; False where another writer was faster."""
        if self._url.startswith("gs://"):
            return self._put(path, content, stored.version)
        # A folder knows no conditional replace, and its times are too coarse to tell versions
        # apart: its writers take turns, and look again at the content.
        with _storage_errors(path), _locked(self._folder / ".lock"):
            if self._get(path).content != stored.content:
                return False
            return self._put(path, content, "overwrite")

    def _put(self, path: str, content: bytes, mode: "PutMode") -> bool:
        with _storage_errors(path):
            try:
                obstore.put(self._opened, path, content, mode=mode)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def _get(self, path: str) -> "_Stored":
        with _storage_errors(path):
            found = obstore.get(self._opened, path)
            version: UpdateVersion = {
                "e_tag": found.meta["e_tag"],
                "version": found.meta["version"],
            }
            return _Stored(bytes(found.bytes()), version)


@dataclass(frozen=True, slots=True)
class _Stored:
    content: bytes
    version: "UpdateVersion"


def _item_path(item_id: str) -> str:
    return f"items/{item_id}.json"


def _receipt_path(event_id: str) -> str:
    return f"events/{event_id}.json"


def _stored_item(item_id: str, content: bytes) -> Item:
    try:
        return read_item(content)
    except (NotJsonError, NotAnItemError):
        # Not ours: somebody put it there by hand. A real item replaces it.
        return Item(item_id, None, content)


def _stored_receipt(event_id: str, content: bytes) -> Receipt:
    try:
        return Receipt.read(content)
    except ReceiptError as error:
        raise StorageError(f"{_receipt_path(event_id)} cannot be read: {error}") from error


@contextlib.contextmanager
def _storage_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        kind = NotThereError if isinstance(error, FileNotFoundError) else StorageError
        raise kind(f"{path}: {first_line}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
