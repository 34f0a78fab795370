"""Objects of a bucket or files of a folder, with conditional writes.

A write is conditional so that two writers cannot undo each other's work: an object is created only
where there is none, and replaced only in the version that was read.
"""

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, PreconditionError
from obstore.store import GCSStore, LocalStore

from pipeline.store.errors import ObjectNotFoundError, StorageError
from pipeline.store.settings import StorageSettings

if TYPE_CHECKING:
    from obstore import Attributes, PutMode, UpdateVersion
    from obstore.store import GCSConfig


# A try is much shorter than all of them, so that one that hangs is repeated.
_TRY_SECONDS = 6.0
_ALL_TRIES_SECONDS = 20.0
_READ_RETRIES = 4
_WRITE_PAUSES_SECONDS = (0.2, 0.6, 1.8)
# The receipt of an event with a million items has some 100 MB.
_LARGE_BYTES = 8 * 1024 * 1024
_LARGE_TRY_SECONDS = 60.0
_CHUNK_BYTES = 1024 * 1024
UPLOAD_PART_BYTES = 5 * 1024 * 1024  # Cloud Storage's least for every part but the last one

Content = bytes | Sequence[bytes]  # all of it, or its parts


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The content of an object, when it was written, and the version that a replacement names.

    Files have no versions, and their times are too coarse to distinguish contents. So the `e_tag`
    of a file is the SHA-256 of its content.
    """

    content: bytes
    written_at: datetime
    version: "UpdateVersion"


def open_storage(
    settings: StorageSettings,
    retries: int = _READ_RETRIES,
    try_seconds: float | None = None,
) -> LocalStore | GCSStore:
    """The folder, which is created if it is missing, or the bucket.

    `retries` is how often the library repeats a request to the bucket, `try_seconds` the time of
    one request with its body.
    """
    if settings.url.startswith("file://"):
        return LocalStore(settings.url.removeprefix("file://"), mkdir=True)
    emulator: GCSConfig = {}
    if settings.emulator_url:
        emulator = {"base_url": settings.emulator_url, "bearer_token": "emulator"}
    return GCSStore.from_url(
        settings.url,
        config=emulator,
        client_options={
            "timeout": f"{try_seconds or _TRY_SECONDS}s",
            "connect_timeout": "5s",
            "allow_http": bool(settings.emulator_url),
        },
        retry_config={
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=max(_ALL_TRIES_SECONDS, try_seconds or 0)),
        },
        credential_provider=settings.credential,
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
            content = bytes(found.bytes())
            version: UpdateVersion = {
                "e_tag": found.meta["e_tag"] if self._folder is None else _digest([content]),
                "version": found.meta["version"],
            }
            return StoredObject(content, found.meta["last_modified"], version)

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""
        with _storage_errors(name):
            try:
                obstore.head(self._storage, name)
            except FileNotFoundError:
                return False
            return True

    def create(
        self, name: str, content: Content, content_type: str | None = None
    ) -> "UpdateVersion | None":
        """Create an object and return its version; None where it already exists."""
        return self._put(name, content, "create", content_type)

    def upload(self, name: str, content: Iterable[bytes], content_type: str) -> None:
        """Create or replace an object, of whose content at most some parts are in memory.

        The object appears, complete, once the content has ended; an exception from `content` is
        raised here, and nothing is stored. An upload in parts has no condition, so ask first
        whether the object exists.
        """
        with _storage_errors(name):
            obstore.put(
                self._storage_for_uploads,
                name,
                content,
                attributes=self._attributes(content_type),
                mode="overwrite",
                use_multipart=True,
                chunk_size=UPLOAD_PART_BYTES,
                max_concurrency=1,
            )

    def overwrite(self, name: str, content: bytes) -> None:
        """Create or replace an object, whatever is stored."""
        with _storage_errors(name):
            obstore.put(self._storage, name, content, mode="overwrite", use_multipart=False)

    def delete(self, name: str) -> None:
        """Delete an object; one that does not exist is no error."""
        with _storage_errors(name), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._storage, name)

    async def overwrite_async(self, name: str, content: bytes) -> None:
        """Create or replace an object, in an event loop."""
        with _storage_errors(name):
            storage = await asyncio.to_thread(lambda: self._storage)
            await obstore.put_async(storage, name, content, mode="overwrite", use_multipart=False)

    def replace(
        self, name: str, content: Content, version: "UpdateVersion"
    ) -> "UpdateVersion | None":
        """Replace this version of an object; return the new one, or None where it is gone."""
        if self._folder is None:
            return self._put(name, content, version)
        # Files have no conditional replace, so writers take turns and compare the content.
        with _storage_errors(name), _locked(self._folder / ".lock"):
            try:
                stored = obstore.get(self._storage, name).stream(min_chunk_size=_CHUNK_BYTES)
            except FileNotFoundError:
                return None
            return (
                self._put(name, content, "overwrite")
                if _digest(stored) == version["e_tag"]
                else None
            )

    @functools.cached_property
    def _storage(self) -> LocalStore | GCSStore:
        return open_storage(self._settings)

    @functools.cached_property
    def _storage_for_writes(self) -> LocalStore | GCSStore:
        # The library does not report whether it has repeated a write.
        return open_storage(self._settings, retries=0)

    @functools.cached_property
    def _storage_for_large_writes(self) -> LocalStore | GCSStore:
        return open_storage(self._settings, retries=0, try_seconds=_LARGE_TRY_SECONDS)

    @functools.cached_property
    def _storage_for_uploads(self) -> LocalStore | GCSStore:
        # A part may be repeated: the last one of its number counts.
        return open_storage(self._settings, try_seconds=_LARGE_TRY_SECONDS)

    def _attributes(self, content_type: str | None) -> "Attributes | None":
        """The attributes of a new object; files have none."""
        return {"Content-Type": content_type} if content_type and not self._folder else None

    @property
    def _folder(self) -> Path | None:
        url = self._settings.url
        return Path(url.removeprefix("file://")) if url.startswith("file://") else None

    def _put(
        self, name: str, content: Content, mode: "PutMode", content_type: str | None = None
    ) -> "UpdateVersion | None":
        """Write under a condition; return the new version, or None where it does not hold.

        A write that fails is repeated, which is safe because of the condition. The failed one may
        have been carried out all the same; then the repetition finds what was just written.
        """
        is_large = sum(map(len, _parts(content))) > _LARGE_BYTES
        give_up = time.monotonic() + _ALL_TRIES_SECONDS
        pauses = iter(_WRITE_PAUSES_SECONDS if self._folder is None else ())
        is_repeated = False
        with _storage_errors(name):
            storage = self._storage_for_large_writes if is_large else self._storage_for_writes
            while True:
                try:
                    put = obstore.put(
                        storage,
                        name,
                        content,
                        attributes=self._attributes(content_type),
                        mode=mode,
                        use_multipart=False,
                    )
                except (AlreadyExistsError, PreconditionError):
                    return self._version_of(name, content) if is_repeated else None
                except GenericError:
                    pause = next(pauses, None)
                    if pause is None or time.monotonic() > give_up:
                        raise
                    time.sleep(pause)
                    is_repeated = True
                else:
                    e_tag = put["e_tag"] if self._folder is None else _digest(_parts(content))
                    return {"e_tag": e_tag, "version": put["version"]}

    def _version_of(self, name: str, content: Content) -> "UpdateVersion | None":
        """The version of an object with this content; None where it has another one."""
        stored = self.get(name)
        return stored.version if stored.content == b"".join(_parts(content)) else None


def _parts(content: Content) -> Sequence[bytes]:
    return [content] if isinstance(content, bytes) else content


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


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
