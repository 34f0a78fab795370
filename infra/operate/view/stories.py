"""What is known about single events, for their pages."""

import threading
import time
from itertools import islice

from operate.diagnosis.evidence import collect
from operate.diagnosis.story import Evidence
from operate.installation import Installation
from operate.view.index import Index
from pipeline.store.receipts import Receipt

_LAST = "30d"  # how far back the log is read
_MOST_KEPT = 100
_MAX_ITEMS = 500


class Stories:
    """Reads one event at a time, which in Google Cloud takes seconds, and keeps what it has read.

    It is read again when its receipt has changed, and after `status_poll_seconds`.
    """

    def __init__(self, installation: Installation, index: Index) -> None:
        self._installation = installation
        self._index = index
        self._lock = threading.Lock()
        # By event, with the time of reading and the version of the receipt.
        self._kept: dict[str, tuple[float, object, Evidence]] = {}

    def evidence(self, event_id: str) -> Evidence:
        """What is known about an event.

        Raises:
            UsageError, CommandError: the installation cannot be read.
        """
        with self._lock:
            version = self._index.version_of_receipt(event_id)
            read_at, known_version, evidence = self._kept.get(event_id, (0.0, None, None))
            is_old = time.monotonic() - read_at >= self._installation.status_poll_seconds
            if evidence is None or is_old or version != known_version:
                evidence = collect(self._installation, event_id, _LAST, leases=False)
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                self._kept[event_id] = (time.monotonic(), version, evidence)
            return evidence


def first_items(receipt: Receipt) -> list[tuple[str, str]]:
    """The ids of items with their states: those that are not stored first, and not too many."""
    items = list(islice(receipt.iterate_unsettled(), _MAX_ITEMS))
    unsettled = {name for name, _ in items}
    settled = (each for each in receipt.items.items() if each[0] not in unsettled)
    return [*items, *islice(settled, _MAX_ITEMS - len(items))]
