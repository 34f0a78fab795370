"""The states of an attempt's items, and its receipt.

The receipt is stored at the end of the attempt, and during a long attempt at intervals, so that a
killed attempt keeps its progress.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import repeat

from pipeline.store.receipts import Receipt
from pipeline.store.states import PENDING, is_settled
from pipeline.store.store import Store

FIRST_WRITE_SECONDS = 0.4
WRITE_INTERVAL_SECONDS = 1.0  # Cloud Storage takes about one write per second of the same object
_FIRST_WRITE_PER_READ = 2
_INTERVAL_PER_WRITE = 20  # so that writes of a large receipt take at most 5 % of the attempt
_LEAST_WAIT_SECONDS = 0.05


class Progress:
    """Keeps the state of each item of an attempt. For one thread.

    `write_seconds` is how long the next write of the receipt will probably take: as long as the
    last one, and before that as long as it took to read the event.
    """

    def __init__(
        self, store: Store, receipt: Receipt, stored: Receipt | None, read_seconds: float
    ) -> None:
        """`receipt` is that of this attempt, `stored` the one of earlier attempts."""
        self.event_id = receipt.event_id
        self.write_seconds = read_seconds
        self._store = store
        if stored and not stored.delivery.is_later_than(receipt.delivery):
            receipt = receipt.merged_with(stored)
        self._receipt = receipt
        self._states = dict(receipt.items)
        self._shared_states: dict[str, str] = {}  # one object for each state that is set
        self._is_counted = False
        self._is_changed = False
        self._due = time.monotonic() + max(
            FIRST_WRITE_SECONDS, _FIRST_WRITE_PER_READ * read_seconds
        )

    @property
    def due_in(self) -> float:
        """Seconds until the next write at an interval."""
        return max(_LEAST_WAIT_SECONDS, self._due - time.monotonic())

    def set_state(self, item_id: str, state: str) -> None:
        """Set the state of an item. One that is settled stays settled."""
        known = self._states.get(item_id, PENDING)
        if state != known and (is_settled(state) or not is_settled(known)):
            self._states[item_id] = self._shared_states.setdefault(state, state)
            self._is_changed = True

    def set_unsettled(self, item_ids: Iterable[str], state: str) -> None:
        """Set the state of those of the items that are not settled."""
        self._states.update(zip(self.iterate_unsettled(item_ids), repeat(state)))
        self._is_changed = True

    def iterate_unsettled(self, item_ids: Iterable[str]) -> Iterator[str]:
        """Those of the items that are not settled at the time when they are reached."""
        return (name for name in item_ids if not is_settled(self._states.get(name, PENDING)))

    def store(self) -> Receipt:
        """Store the receipt; return it merged with earlier attempts.

        Where a later delivery has a receipt already, that one stays, and this one is returned.

        Raises:
            StorageError: it could not be stored.
        """
        started = time.monotonic()
        receipt = replace(self._receipt, items=self._states)
        merged = self._store.put_receipt(receipt, same_attempt=self._is_counted)
        self.write_seconds = time.monotonic() - started
        self._is_counted = True
        self._is_changed = False
        if not merged.delivery.is_same_as(receipt.delivery):
            return receipt
        self._receipt = merged
        if merged.items is not self._states:
            self._states = dict(merged.items)
        return merged

    def store_if_due(self) -> None:
        """The same, if the interval is over and anything has changed."""
        if time.monotonic() < self._due:
            return
        if self._is_changed:
            self.store()
        interval = max(WRITE_INTERVAL_SECONDS, _INTERVAL_PER_WRITE * self.write_seconds)
        self._due = time.monotonic() + interval
