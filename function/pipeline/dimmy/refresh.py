"""Brings one stored item up to date with the API."""

import random
from collections.abc import Callable
from datetime import UTC, datetime

from pipeline.deadline import Deadline
from pipeline.dimmy.client import DimmyError
from pipeline.store.items import Item
from pipeline.store.store import CLOCK_UNCERTAINTY, PutResult, WriteResult

_TRIES = 5


def refresh_item(
    fetch: Callable[[], Item], put: Callable[[Item, datetime], PutResult], deadline: Deadline
) -> tuple[Item, PutResult]:
    """Fetch an item and store it; fetch it again where another one was stored in between.

    `fetch` calls `DimmyClient.fetch_item`, `put` is `Store.put_item`, with what the caller adds to
    it.

    Raises:
        DimmyError: the item is stored by others again and again.
        Exception: what `fetch` and `put` raise.
    """
    for _ in range(_TRIES):
        fetched_at = datetime.now(UTC)
        item = fetch()
        written = put(item, fetched_at)
        if written.result is not WriteResult.FETCHED_TOO_EARLY:
            return item, written
        # Not all at the same moment, where several events have the same item.
        deadline.sleep(CLOCK_UNCERTAINTY.total_seconds() * random.uniform(1.0, 2.0))
    raise DimmyError("other contents with the same updated_at are being stored")
