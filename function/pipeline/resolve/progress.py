"""The receipt of one attempt: stored at its end, and during a long attempt at intervals."""

import time
from collections.abc import Mapping
from dataclasses import replace

from pipeline.store.receipts import Receipt
from pipeline.store.store import Store

FIRST_WRITE_SECONDS = 0.4
WRITE_INTERVAL_SECONDS = 1.0  # Cloud Storage takes about one write per second of the same object
_LEAST_WAIT_SECONDS = 0.05


class Progress:
    """Stores the states of an attempt's items, so that a killed attempt keeps its progress."""

    def __init__(self, store: Store, receipt: Receipt) -> None:
        self.event_id = receipt.event_id
        self._store = store
        self._receipt = receipt
        self._is_counted = False
        self._stored_states: dict[str, str] = {}
        self._due = time.monotonic() + FIRST_WRITE_SECONDS

    @property
    def due_in(self) -> float:
        """Seconds until the next write at an interval."""
        return max(_LEAST_WAIT_SECONDS, self._due - time.monotonic())

    def store(self, states: Mapping[str, str]) -> Receipt:
        """Store the receipt with these states; return it merged with earlier attempts.

        Raises:
            StorageError: it could not be stored.
        """
        self._stored_states = dict(states)
        receipt = replace(self._receipt, items=self._stored_states)
        merged = self._store.put_receipt(receipt, same_attempt=self._is_counted)
        self._is_counted = True
        return merged

    def store_if_due(self, states: Mapping[str, str]) -> None:
        """The same, if the interval is over and anything has changed."""
        if time.monotonic() < self._due:
            return
        if states != self._stored_states:
            self.store(states)
        self._due = time.monotonic() + WRITE_INTERVAL_SECONDS
