"""Stores the photos of an item, several at a time."""

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain, islice

from pipeline.archive.addresses import NotAllowedError, read_address
from pipeline.archive.client import (
    MAX_PHOTO_BYTES,
    PhotoClient,
    PhotoError,
    PhotoResponse,
    TooLargeError,
)
from pipeline.archive.photos import Photo
from pipeline.archive.states import PRESENT, REFUSED, STORED, kind_of
from pipeline.deadline import Deadline
from pipeline.layout import photo_name
from pipeline.logs import Severity, log
from pipeline.shutdown import is_shutting_down
from pipeline.store.errors import StorageError
from pipeline.store.objects import UPLOAD_PART_BYTES, Objects
from pipeline.unforeseen import UnforeseenErrors

THREADS = 8  # of the process; each has at most some parts of an upload in memory

# A photo of at most this size is stored by one conditional create, a larger one in parts.
SMALL_PHOTO_BYTES = UPLOAD_PART_BYTES

_GRACE_SECONDS = 2.0  # how long running requests may overrun the deadline
_POLL_SECONDS = 0.25  # how soon the loop notices that the server is asked to stop


class PhotoKeeper:
    """Stores photos for all items of the process, in one pool of threads."""

    def __init__(self, objects: Objects, client: PhotoClient, origins: Iterable[str]) -> None:
        self._objects = objects
        self._client = client
        self._origins = frozenset(origins)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="photos")

    def keep_all(self, item_id: str, photos: Sequence[Photo], deadline: Deadline) -> dict[str, str]:
        """Store those of the photos that are not stored yet; return the state of each by name.

        It ends at the deadline. All photos are tried until then, whatever fails.
        """
        unforeseen = UnforeseenErrors()
        states = {photo.name: f"not tried: {deadline.reason}" for photo in photos}
        waiting = iter(photos)
        running: dict[Future[str], Photo] = {}

        def start(count: int) -> None:
            for photo in islice(waiting, count):
                future = self._pool.submit(self._keep, item_id, photo, deadline, unforeseen)
                running[future] = photo

        # An item never has more photos in the pool than there are threads, so that one of many
        # photos does not keep the others waiting.
        start(THREADS)
        while running and not is_shutting_down() and deadline.overdue < _GRACE_SECONDS:
            finished, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                states[running.pop(future).name] = future.result()
            if deadline.remaining:
                start(THREADS - len(running))
        for photo in running.values():
            states[photo.name] = f"not finished: {deadline.reason}"
        return states

    def _keep(
        self, item_id: str, photo: Photo, deadline: Deadline, unforeseen: UnforeseenErrors
    ) -> str:
        """Store one photo; return its state."""
        try:
            state = self._store(item_id, photo, deadline)
        except NotAllowedError as error:
            state = f"{REFUSED} its address {error}"
        except TooLargeError:
            state = f"{REFUSED} it is larger than {MAX_PHOTO_BYTES // 1024**2} MiB"
        except PhotoError as error:
            state = str(error)
        except StorageError as error:
            state = f"storage: {error}"
        except Exception as error:  # noqa: BLE001  # see pipeline.unforeseen
            return unforeseen.log_item(error, item_id=item_id, photo=photo.name)
        severity: Severity = "DEBUG" if kind_of(state) in {STORED, PRESENT} else "WARNING"
        log(severity, "photo", item_id=item_id, photo=photo.name, state=state)
        return state

    def _store(self, item_id: str, photo: Photo, deadline: Deadline) -> str:
        address = read_address(photo.address, self._origins)
        name = photo_name(item_id, photo.name)
        if self._objects.exists(name):
            return PRESENT
        with self._client.open(address, deadline) as response:
            beginning, is_all = _read_beginning(response)
            if is_all:
                created = self._objects.create(name, beginning, response.content_type)
                return STORED if created else PRESENT
            # An upload in parts has no condition. Should another attempt store the photo at the
            # same time, this one replaces it with the same photo, or is refused, because the role
            # of `archive` does not include replacing.
            content = chain([beginning], response.chunks)
            try:
                self._objects.upload(name, content, response.content_type)
            except StorageError:
                if not self._objects.exists(name):
                    raise
                return PRESENT
            return STORED


def _read_beginning(response: PhotoResponse) -> tuple[bytes, bool]:
    """The first bytes of a photo, and whether these are all of it."""
    beginning = io.BytesIO()
    for chunk in response.chunks:
        beginning.write(chunk)
        if beginning.tell() > SMALL_PHOTO_BYTES:
            return beginning.getvalue(), False
    return beginning.getvalue(), True
