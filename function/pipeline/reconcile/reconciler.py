"""The backfill handler: pages through the API's items of a window and stores what is missing.

It stores items whose webhook never arrived: the endpoint was disabled, an outage lasted longer than
the sender's retries, or the scan is older than the installation. It may run at any time and as
often as needed, because an item never replaces a newer one.
"""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask

from pipeline.dimmy.client import DimmyClient, DimmyError
from pipeline.dimmy.deadline import Deadline
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.logs import log
from pipeline.reconcile.counts import COUNTS
from pipeline.reconcile.pages import Page, read_pages
from pipeline.reconcile.settings import ReconcileSettings
from pipeline.reconcile.window import Window, WindowError, read_window
from pipeline.store.errors import StorageError
from pipeline.store.items import Item, NotAnItemError
from pipeline.store.store import Store, WriteResult

_COUNTED_AS = {
    WriteResult.CREATED: "stored",
    WriteResult.REPLACED: "updated",
    WriteResult.UNCHANGED: "unchanged",
}

Answer = tuple[dict[str, Any], int]


class Reconciler:
    """Answers requests for a window. Connects to nothing before the first of them."""

    def __init__(self, settings: ReconcileSettings) -> None:
        self._store = Store(settings.storage)
        self._dimmy = DimmyClient(settings.dimmy)
        self._attempt_seconds = settings.attempt_seconds
        self._pool = ThreadPoolExecutor(settings.dimmy.concurrency, thread_name_prefix="items")

    def handle(self, request: flask.Request) -> Answer:
        """200 with the counts of the complete window; 503 with the counts so far after a failure.

        400 where the window cannot be read. Repeating a request is always safe.
        """
        started = time.perf_counter()
        try:
            window = read_window(_parameters(request))
        except WindowError as error:
            return {"error": "malformed_window", "message": str(error)}, 400
        counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        statistics = RequestStatistics()
        reason = ""
        try:
            self._reconcile(window, counts, statistics)
        except DimmyError as error:
            reason = str(error)
        if counts["failed"] and not reason:
            reason = f"{counts['failed']} items could not be stored"
        fields = {
            "start_date": window.start.isoformat(),
            "end_date": window.end.isoformat(),
            "milliseconds": round((time.perf_counter() - started) * 1000, 1),
            "trace": request.headers.get("traceparent"),
            **counts,
            **statistics.log_fields(),
        }
        if reason:
            log("ERROR", "reconcile unfinished", outcome="unfinished", reason=reason, **fields)
            message = f"Repeat the request: {reason}."
            return {**counts, "error": "unfinished", "message": message}, 503
        log("INFO", "reconcile done", outcome="done", **fields)
        return dict(counts), 200

    def _reconcile(
        self, window: Window, counts: "Counter[str]", statistics: RequestStatistics
    ) -> None:
        """Store the items of the window, counting them.

        Raises:
            DimmyError: the API failed, or the time is over; what is counted is stored.
        """
        deadline = Deadline(self._attempt_seconds)
        for page in read_pages(self._dimmy, window, deadline, statistics):
            counts.update(self._pool.map(self._store_one, page))
            counts["seen"] += len(page)
            log("INFO", "reconcile in progress", reached=_latest(page), **counts)

    def _store_one(self, found: Item | NotAnItemError) -> str:
        """Store one item; return the name of the count that it belongs to."""
        if isinstance(found, NotAnItemError):
            log("WARNING", "item", state=f"malformed: {found}")
            return "failed"
        try:
            result = self._store.put_item(found, check_first=True)
        except StorageError as error:
            log("WARNING", "item", item_id=found.item_id, state=f"storage: {error}")
            return "failed"
        if result is not WriteResult.UNCHANGED:
            log("INFO", "item", item_id=found.item_id, state=result.value)
        return _COUNTED_AS[result]


def _parameters(request: flask.Request) -> dict[str, Any]:
    """The parameters of the query and of a JSON body."""
    body = request.get_json(silent=True) if request.mimetype == "application/json" else {}
    if not isinstance(body, dict):
        raise WindowError("The body is not a JSON object with start_date and end_date.")
    return body | request.args.to_dict()


def _latest(page: Page) -> str | None:
    """The creation time of the page's newest item, which is how far the window is done."""
    times = [item.created_at for item in page if isinstance(item, Item) and item.created_at]
    return max(times).isoformat() if times else None
