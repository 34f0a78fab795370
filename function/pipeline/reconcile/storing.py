"""Stores and publishes the items that a reconcile has listed."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import NamedTuple

from pipeline.deadline import Deadline
from pipeline.dimmy.client import ApiKeyRejectedError, DimmyClient, DimmyError, NotFoundError
from pipeline.dimmy.refresh import refresh_item
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.items_topic.topic import ItemsTopic, ItemsTopicError
from pipeline.logs import log
from pipeline.store.errors import StorageError
from pipeline.store.items import Item, MalformedItem, not_comparable_state
from pipeline.store.store import PutResult, Store, WriteResult
from pipeline.unforeseen import UnforeseenErrors

_COUNTED_AS = {
    WriteResult.CREATED: "stored",
    WriteResult.REPLACED: "updated",
    WriteResult.UNCHANGED: "unchanged",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The bounds and the records of one request to `reconcile`."""

    deadline: Deadline
    statistics: RequestStatistics
    counts: "Counter[str]"
    unforeseen: UnforeseenErrors = field(default_factory=UnforeseenErrors)


class Failures(NamedTuple):
    """What could not be stored: the ids of items, and the number of elements that are no items."""

    item_ids: list[str]
    malformed: int


class _Stored(NamedTuple):
    """The count that an item belongs to, and its id if it is to be tried again."""

    counted_as: str
    failed_id: str = ""


def _failures_of(results: Sequence[_Stored]) -> Failures:
    failed = [result.failed_id for result in results if result.counted_as == "failed"]
    return Failures([item_id for item_id in failed if item_id], failed.count(""))


class ItemStorer:
    """Stores items, many at a time, publishes those that are new or newer, and counts them.

    An item is published before it is written. The other way round, a run that ends between the two
    would leave an item that the next run finds unchanged and never publishes.
    """

    def __init__(
        self, store: Store, dimmy: DimmyClient, topic: ItemsTopic, concurrency: int
    ) -> None:
        self._store = store
        self._dimmy = dimmy
        self._topic = topic
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="items")

    def store_page(
        self, items: Sequence[Item | MalformedItem], fetched_at: datetime, attempt: Attempt
    ) -> Failures:
        """Store the items of a page, the request for which began at `fetched_at`."""
        results = list(
            self._pool.map(lambda item: self._store_one(item, fetched_at, attempt), items)
        )
        attempt.counts.update(result.counted_as for result in results)
        attempt.counts["seen"] += len(items)
        return _failures_of(results)

    def retry(self, item_ids: Sequence[str], attempt: Attempt, deadline: Deadline) -> Failures:
        """Fetch and store what an earlier run could not store, until the deadline.

        Returns:
            What is left. Items that were not tried come first, so that the next run begins with
            them and slow ones do not keep the others waiting.

        Raises:
            ApiKeyRejectedError: the key is not accepted.
        """
        results = []
        tried = 0
        for item_id in item_ids:
            if not deadline.remaining:
                break
            tried += 1
            try:
                stored = _stored(*self._refresh(item_id, attempt))
            except NotFoundError:
                log("INFO", "item", item_id=item_id, state="deleted since it was listed")
                continue
            except StorageError as error:
                stored = _failed(item_id, f"storage: {error}")
            except ApiKeyRejectedError:
                raise
            except (DimmyError, ItemsTopicError) as error:
                stored = _failed(item_id, str(error))
            except Exception as error:  # noqa: BLE001  # see pipeline.unforeseen
                attempt.unforeseen.log_item(error, item_id=item_id)
                stored = _Stored("failed", item_id)
            attempt.counts.update([stored.counted_as, "seen"])
            results.append(stored)
        failed, malformed = _failures_of(results)
        return Failures([*item_ids[tried:], *failed], malformed)

    def _store_one(
        self, found: Item | MalformedItem, fetched_at: datetime, attempt: Attempt
    ) -> _Stored:
        if isinstance(found, MalformedItem):
            log("WARNING", "item", state=f"malformed: {found.reason}")
            return _Stored("failed")
        if not attempt.deadline.remaining:
            return _failed(found.item_id, f"not tried: {attempt.deadline.reason}")
        return self._store_item(found, fetched_at, attempt)

    def _store_item(self, item: Item, fetched_at: datetime, attempt: Attempt) -> _Stored:
        try:
            written = self._put(item, fetched_at, check_first=True)
            if written.result is WriteResult.FETCHED_TOO_EARLY:
                item, written = self._refresh(item.item_id, attempt)
        except NotFoundError:
            return _Stored("unchanged")  # deleted since it was listed; the stored one stays
        except StorageError as error:
            return _failed(item.item_id, f"storage: {error}")
        except (DimmyError, ItemsTopicError) as error:
            return _failed(item.item_id, str(error))
        except Exception as error:  # noqa: BLE001  # see pipeline.unforeseen
            attempt.unforeseen.log_item(error, item_id=item.item_id)
            return _Stored("failed", item.item_id)
        return _stored(item, written)

    def _refresh(self, item_id: str, attempt: Attempt) -> tuple[Item, PutResult]:
        """Fetch the item and store it.

        Raises:
            NotFoundError: it was deleted.
            DimmyError, ItemsTopicError, StorageError: it cannot be stored now.
        """
        bounds = attempt.deadline, attempt.statistics
        try:
            fetch = partial(self._dimmy.fetch_item, item_id, *bounds)
            return refresh_item(fetch, self._put, attempt.deadline)
        except NotFoundError as error:
            self._dimmy.check_route(error, *bounds)
            raise

    def _put(self, item: Item, fetched_at: datetime, *, check_first: bool = False) -> PutResult:
        """Publish the item and store it, unless the stored one is the same or newer."""
        is_published = False

        def publish(item: Item) -> None:
            nonlocal is_published
            self._topic.publish(item)
            is_published = True

        written = self._store.put_item(
            item, fetched_at, check_first=check_first, before_write=publish
        )
        if is_published and written.stored.line != item.line:
            # Another writer was faster. Of two contents with the same time, subscribers keep the
            # one that was published last, which has to be the stored one.
            self._topic.publish(written.stored)
        return written


def _stored(item: Item, written: PutResult) -> _Stored:
    result = written.result
    if result is WriteResult.NOT_COMPARABLE:
        _failed(item.item_id, not_comparable_state(item))
        return _Stored("failed")
    if result is not WriteResult.UNCHANGED:
        log("INFO", "item", item_id=item.item_id, state=result.value)
    return _Stored(_COUNTED_AS[result])


def _failed(item_id: str, state: str) -> _Stored:
    log("WARNING", "item", item_id=item_id, state=state)
    return _Stored("failed", item_id)
