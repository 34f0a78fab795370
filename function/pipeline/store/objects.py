"""Objects of a bucket or files of a folder, with conditional writes.

A write is conditional so that two writers cannot undo each other's work: an object is created only
where there is none, and replaced only in the version that was read.
"""

import asyncio
import contextlib
import fcntl
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import GCSStore, LocalStore

from pipeline.store.errors import ObjectNotFoundError, StorageError
from pipeline.store.settings import StorageSettings

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion
    from obstore.store import GCSConfig


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The content of an object, and the version that a replacement has to name."""

    content: bytes
    version: "UpdateVersion"


def open_storage(settings: StorageSettings) -> LocalStore | GCSStore:
    """The folder, which is created if it is missing, or the bucket."""
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


class Objects:
    """The objects below one storage URL.

    Storage is opened on first use. Safe to share between threads; every method raises StorageError.
    """

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings

    def get(self, name: str) -> StoredObject:
        """Read an object.

        Raises:
            ObjectNotFoundError: there is none of this name.
        """
        with _storage_errors(name):
            found = obstore.get(self._storage, name)
            version: UpdateVersion = {
                "e_tag": found.meta["e_tag"],
                "version": found.meta["version"],
            }
            return StoredObject(bytes(found.bytes()), version)

    def create(self, name: str, content: bytes) -> bool:
        """Create an object; False where it already exists."""
        return self._put(name, content, "create")

    async def create_async(self, name: str, content: bytes) -> bool:
        """The same for an event loop."""
        with _storage_errors(name):
            storage = await asyncio.to_thread(lambda: self._storage)
            try:
                await obstore.put_async(storage, name, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def replace(self, name: str, content: bytes, stored: StoredObject) -> bool:
        """Replace an object; False where it is no longer the one that was read."""
        if self._folder is None:
            return self._put(name, content, stored.version)
        # Files have no conditional replace, and their times are too coarse to distinguish versions.
        # So writers take turns and compare the content.
        with _storage_errors(name), _locked(self._folder / ".lock"):
            if self.get(name).content != stored.content:
                return False
            return self._put(name, content, "overwrite")

    @functools.cached_property
    def _storage(self) -> LocalStore | GCSStore:
        return open_storage(self._settings)

    @property
    def _folder(self) -> Path | None:
        url = self._settings.url
        return Path(url.removeprefix("file://")) if url.startswith("file://") else None

    def _put(self, name: str, content: bytes, mode: "PutMode") -> bool:
        with _storage_errors(name):
            try:
                obstore.put(self._storage, name, content, mode=mode)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True


@contextlib.contextmanager
def _storage_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        kind = ObjectNotFoundError if isinstance(error, FileNotFoundError) else StorageError
        raise kind(f"{name}: {first_line}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
