"""Reads archived photos for the pages, from the folder or the bucket."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import obstore

from operate.installation import open_objects
from operate.object_listing import ObjectListing
from operate.view.storage_errors import unreadable
from pipeline.archive.photos import is_name
from pipeline.layout import photo_name
from pipeline.store.items import is_item_id
from pipeline.store.settings import StorageSettings

# What browsers show, and more. The type that a photo was stored with came from another server.
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftyphei", "image/heic"),
    (4, b"ftypmif1", "image/heif"),
)
_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True)
class StoredPhoto:
    """A photo that is being read. `content_type` is empty where its content is no known image."""

    content_type: str
    size: int
    chunks: AsyncIterator[bytes] = field(repr=False)


class StoredPhotos:
    """The photos that `archive` has stored."""

    def __init__(self, settings: StorageSettings) -> None:
        self._storage = open_objects(settings)
        self._listing = ObjectListing(settings)

    def names(self, item_id: str) -> frozenset[str]:
        """The names of the stored photos of an item.

        Raises:
            UnreadableError: storage refuses, or cannot be reached.
        """
        if not is_item_id(item_id):
            return frozenset()
        prefix = photo_name(item_id, "")
        with unreadable():
            return frozenset(
                listed.name.rpartition("/")[2]
                for page in self._listing.pages(prefix)
                for listed in page
            )

    async def open(self, item_id: str, name: str) -> StoredPhoto | None:
        """A stored photo; None where there is none of this name.

        Raises:
            UnreadableError: storage refuses, or cannot be reached.
        """
        if not (is_item_id(item_id) and is_name(name)):
            return None
        with unreadable(), contextlib.suppress(FileNotFoundError):
            found = await obstore.get_async(self._storage, photo_name(item_id, name))
            chunks = aiter(found.stream(min_chunk_size=_CHUNK_BYTES))
            beginning = bytes(await anext(chunks, b""))
            return StoredPhoto(_type_of(beginning), found.meta["size"], _all(beginning, chunks))
        return None


async def _all(beginning: bytes, chunks: AsyncIterator[object]) -> AsyncIterator[bytes]:
    yield beginning
    with unreadable():
        async for chunk in chunks:
            yield bytes(chunk)  # type: ignore[call-overload]


def _type_of(beginning: bytes) -> str:
    return next(
        (kind for start, mark, kind in _SIGNATURES if beginning.startswith(mark, start)), ""
    )
