"""Fetches the items of an event, stores and publishes them, many at a time."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice

from pipeline.deadline import Deadline
from pipeline.dimmy.client import (
    ApiKeyRejectedError,
    DimmyClient,
    DimmyError,
    LargeItemError,
    NotFoundError,
)
from pipeline.dimmy.refresh import refresh_item
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.items_topic.topic import ItemsTopic, ItemsTopicError
from pipeline.logs import Severity, log
from pipeline.resolve.progress import Progress
from pipeline.shutdown import is_shutting_down
from pipeline.store.errors import StorageError
from pipeline.store.items import Item, not_comparable_state
from pipeline.store.states import PENDING, STORED, UNCHANGED, is_settled
from pipeline.store.store import PutResult, Store, WriteResult
from pipeline.unforeseen import UnforeseenErrors

# How long running requests may overrun the deadline before the attempt ends without them.
GRACE_SECONDS = 2.0

# The least time of an attempt for its items. Without it, an event that takes the whole attempt to
# be read would never make progress.
LEAST_SECONDS = 2.0

# How many items of more than 1 MiB, of up to 32 MiB each, the process has in memory at once.
_LARGE_ITEMS = 4

_POLL_SECONDS = 0.25  # how soon the loop notices the deadline, and that the server is asked to stop

# Another writer replaces a content with the same time only after CLOCK_UNCERTAINTY.
_SLOW_PUBLISH_SECONDS = 1.0

_STATES = {
    WriteResult.CREATED: STORED,
    WriteResult.REPLACED: STORED,
    WriteResult.UNCHANGED: UNCHANGED,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The bounds and the records of one attempt at an event."""

    deadline: Deadline
    statistics: RequestStatistics
    progress: Progress
    unforeseen: UnforeseenErrors = field(default_factory=UnforeseenErrors)


class ItemFetcher:
    """Fetches, stores and publishes items for all events of the process, in one pool of threads.

    Large items have a small pool of their own, because each is in memory until it is published.
    An item is published after it was stored, and before it is settled. One that was stored already
    is published, too: an earlier attempt may have stored it and ended before it was published.
    An event never has more items in the pool than there are threads, so that an event of thousands
    of items does not keep the others waiting.
    """

    def __init__(
        self, store: Store, dimmy: DimmyClient, topic: ItemsTopic, concurrency: int
    ) -> None:
        self._store = store
        self._dimmy = dimmy
        self._topic = topic
        # The client limits the requests. While threads wait for a confirmation, others fetch.
        self._threads = 2 * concurrency if topic.exists else concurrency
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="items")
        self._pool_of_large_items = ThreadPoolExecutor(_LARGE_ITEMS, thread_name_prefix="large")

    def fetch_all(self, item_ids: Sequence[str], attempt: Attempt) -> None:
        """Fetch and store those of the items that are not settled, and keep the state of each.

        It ends early at the deadline, less the time for the last write of the receipt, and when the
        API key is rejected. Some items are tried, however little time remains.
        """
        progress = attempt.progress
        progress.set_unsettled(item_ids, PENDING)
        deadline = attempt.deadline.or_at_least(LEAST_SECONDS)
        attempt = replace(attempt, deadline=deadline)
        waiting = progress.iterate_unsettled(item_ids)
        running: dict[Future[str], str] = {}
        stop_reason = ""

        def start(count: int) -> None:
            for item_id in islice(waiting, count):
                submit(self._pool, item_id, has_room=False)

        def submit(pool: ThreadPoolExecutor, item_id: str, *, has_room: bool) -> None:
            future = pool.submit(self._fetch_one, item_id, attempt, has_room=has_room)
            running[future] = item_id

        start(self._threads)
        while running and not is_shutting_down() and deadline.overdue < GRACE_SECONDS:
            timeout = min(progress.due_in, _POLL_SECONDS)
            finished, _ = wait(running, timeout=timeout, return_when=FIRST_COMPLETED)
            for future in finished:
                item_id = running.pop(future)
                try:
                    state = future.result()
                except LargeItemError:
                    submit(self._pool_of_large_items, item_id, has_room=True)
                    continue
                except ApiKeyRejectedError as error:
                    stop_reason = state = str(error)
                progress.set_state(item_id, state)
            if deadline.remaining <= progress.write_seconds:
                stop_reason = stop_reason or deadline.reason
            if not stop_reason:
                start(self._threads - len(running))
            progress.store_if_due()
        progress.set_unsettled(running.values(), f"not finished: {deadline.reason}")
        progress.set_unsettled(waiting, f"not tried: {stop_reason or deadline.reason}")

    def store_payload(self, item: Item, attempt: Attempt) -> str:
        """Store an item that an event has brought with it; return its state."""
        return self._store_one(item.item_id, lambda: (item, self._store.put_item(item)), attempt)

    def _fetch_one(self, item_id: str, attempt: Attempt, *, has_room: bool) -> str:
        return self._store_one(
            item_id,
            lambda: self._fetch_and_store(item_id, attempt, has_room=has_room),
            attempt,
        )

    def _store_one(
        self, item_id: str, put: Callable[[], tuple[Item, PutResult]], attempt: Attempt
    ) -> str:
        """Store and publish one item; return its state.

        Raises:
            ApiKeyRejectedError: every other item would fail, too.
            LargeItemError: there is no room for the item. Other failures become the state.
        """
        try:
            item, written = put()
            state = _STATES.get(written.result) or not_comparable_state(item)
            if is_settled(state):
                self._publish(written.stored, attempt.progress.event_id)
        except ApiKeyRejectedError as error:
            _log_item("ERROR", item_id, str(error), attempt.progress)
            raise
        except LargeItemError:
            raise
        except (DimmyError, ItemsTopicError) as error:
            state = str(error)
        except StorageError as error:
            state = f"storage: {error}"
        except Exception as error:  # noqa: BLE001  # see pipeline.unforeseen
            event_id = attempt.progress.event_id
            return attempt.unforeseen.log_item(error, item_id=item_id, event_id=event_id)
        _log_item("DEBUG" if is_settled(state) else "WARNING", item_id, state, attempt.progress)
        return state

    def _publish(self, item: Item, event_id: str) -> None:
        """Publish what was stored.

        While a publish takes long, another writer may store another content with the same time and
        publish it first. Of the two, subscribers keep the one that was published last.
        """
        started = time.monotonic()
        self._topic.publish(item, event_id)
        if time.monotonic() - started > _SLOW_PUBLISH_SECONDS:
            stored = self._store.get_item(item.item_id)
            if stored and stored.line != item.line:
                self._topic.publish(stored, event_id)

    def _fetch_and_store(
        self, item_id: str, attempt: Attempt, *, has_room: bool
    ) -> tuple[Item, PutResult]:
        """Fetch and store an item.

        One that an earlier attempt has stored and could not publish may have been deleted from
        Dimmy since: then the stored one is published.
        """
        bounds = attempt.deadline, attempt.statistics
        try:
            return refresh_item(
                lambda: self._dimmy.fetch_item(item_id, *bounds, has_room=has_room),
                self._store.put_item,
                attempt.deadline,
            )
        except NotFoundError:
            stored = self._store.get_item(item_id) if self._topic.exists else None
            if stored:
                self._topic.publish(stored, attempt.progress.event_id)
            raise


def _log_item(severity: Severity, item_id: str, state: str, progress: Progress) -> None:
    log(severity, "item", item_id=item_id, state=state, event_id=progress.event_id)
