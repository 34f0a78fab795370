"""Fetches the items of an event and stores them, many at a time."""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice

from pipeline.dimmy.client import ApiKeyRejectedError, DimmyClient, DimmyError
from pipeline.dimmy.deadline import Deadline
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.logs import Severity, log
from pipeline.resolve.progress import Progress
from pipeline.shutdown import is_shutting_down
from pipeline.store.errors import StorageError
from pipeline.store.items import Item
from pipeline.store.receipts import PENDING, STORED, UNCHANGED, is_settled
from pipeline.store.store import Store, WriteResult

# How long running requests may overrun the deadline before the attempt ends without them.
GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """The bounds and the records of one attempt at an event."""

    deadline: Deadline
    statistics: RequestStatistics
    progress: Progress


class ItemFetcher:
    """Fetches and stores items for all events of the process, in one pool of threads.

    An event never has more items in the pool than there are threads, so that an event of thousands
    of items does not keep the others waiting.
    """

    def __init__(self, store: Store, dimmy: DimmyClient, concurrency: int) -> None:
        self._store = store
        self._dimmy = dimmy
        self._concurrency = concurrency
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="items")

    def fetch_all(
        self, item_ids: Sequence[str], states: Mapping[str, str], attempt: Attempt
    ) -> dict[str, str]:
        """Fetch and store these items until the deadline or until the API key is rejected.

        Returns:
            The state of each of them, with the given states of other items.
        """
        all_states = dict(states) | dict.fromkeys(item_ids, PENDING)
        waiting = iter(item_ids)
        running: dict[Future[str], str] = {}
        stop_reason = ""

        def start(count: int) -> None:
            for item_id in islice(waiting, count):
                fetch = functools.partial(
                    self._dimmy.fetch_item, item_id, attempt.deadline, attempt.statistics
                )
                future = self._pool.submit(self.store_item, item_id, fetch, attempt.progress)
                running[future] = item_id

        start(self._concurrency)
        while running and not is_shutting_down() and attempt.deadline.overdue < GRACE_SECONDS:
            timeout = attempt.progress.due_in
            finished, _ = wait(running, timeout=timeout, return_when=FIRST_COMPLETED)
            for future in finished:
                item_id = running.pop(future)
                try:
                    all_states[item_id] = future.result()
                except ApiKeyRejectedError as error:
                    stop_reason = all_states[item_id] = str(error)
            if not attempt.deadline.remaining:
                stop_reason = stop_reason or attempt.deadline.reason
            if not stop_reason:
                start(self._concurrency - len(running))
            attempt.progress.store_if_due(all_states)
        unfinished = f"not finished: {attempt.deadline.reason}"
        all_states |= dict.fromkeys(running.values(), unfinished)
        not_tried = f"not tried: {stop_reason or attempt.deadline.reason}"
        return all_states | dict.fromkeys(waiting, not_tried)

    def store_item(self, item_id: str, get: Callable[[], Item], progress: Progress) -> str:
        """Get one item and store it; return its state.

        Raises:
            ApiKeyRejectedError: every other item would fail, too. Other failures become the state.
        """
        try:
            result = self._store.put_item(get())
        except ApiKeyRejectedError as error:
            _log_item("ERROR", item_id, str(error), progress)
            raise
        except DimmyError as error:
            state = str(error)
        except StorageError as error:
            state = f"storage: {error}"
        else:
            state = UNCHANGED if result is WriteResult.UNCHANGED else STORED
        _log_item("DEBUG" if is_settled(state) else "WARNING", item_id, state, progress)
        return state


def _log_item(severity: Severity, item_id: str, state: str, progress: Progress) -> None:
    log(severity, "item", item_id=item_id, state=state, event_id=progress.event_id)
