"""The backfill handler: pages through the API's items of a window and stores what is missing.

It stores items whose webhook never arrived: the endpoint was disabled, an outage lasted longer than
the sender's retries, or the scan is older than the installation. It may run at any time and as
often as needed, because an item never replaces a newer one.
"""

import functools
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import flask

from pipeline.dimmy.client import (
    ApiKeyRejectedError,
    DimmyClient,
    DimmyError,
    NoItemsError,
    NotFoundError,
)
from pipeline.dimmy.deadline import Deadline
from pipeline.dimmy.refresh import refresh_item
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.json_text import NotJsonError, read_json
from pipeline.logs import log
from pipeline.reconcile.checkpoint import Checkpoint
from pipeline.reconcile.counts import COUNTS
from pipeline.reconcile.pages import Page, PageReader
from pipeline.reconcile.settings import ReconcileSettings
from pipeline.reconcile.window import Window, WindowError, read_window
from pipeline.store.errors import StorageError
from pipeline.store.items import Item, MalformedItem
from pipeline.store.store import Store, WriteResult

_COUNTED_AS = {
    WriteResult.CREATED: "stored",
    WriteResult.REPLACED: "updated",
    WriteResult.UNCHANGED: "unchanged",
}
# A slice begins a little early, because it is not documented whether the API includes its bounds.
_SLICE_OVERLAP = timedelta(seconds=1)
_CHECKPOINT_SECONDS = 30.0
_MAX_FAILED = 1000  # of one slice; with more, storage or the API is down

NO_ITEMS = "the API lists no items at all: a new account, or DIMMY_API_URL is wrong"

Answer = tuple[dict[str, Any], int]


@dataclass
class _Run:
    """One request: its bounds, and what it has done so far."""

    window: Window
    deadline: Deadline
    statistics: RequestStatistics = field(default_factory=RequestStatistics)
    counts: "Counter[str]" = field(default_factory=lambda: Counter(dict.fromkeys(COUNTS, 0)))
    began_at: datetime | None = None
    reached: datetime | None = None
    left: int = 0  # items of the complete window that are not stored
    has_page: bool = False  # of the current slice
    lists_items: bool | None = None  # None: not known yet


class _Stored(NamedTuple):
    """The count that an item belongs to, and its id if it is to be tried again."""

    counted_as: str
    failed_id: str = ""


class Reconciler:
    """Answers requests for a window. Connects to nothing before the first of them."""

    def __init__(self, settings: ReconcileSettings) -> None:
        self._store = Store(settings.storage)
        self._dimmy = DimmyClient(settings.dimmy)
        self._attempt_seconds = settings.attempt_seconds
        self._pool = ThreadPoolExecutor(settings.dimmy.concurrency, thread_name_prefix="items")

    def handle(self, request: flask.Request) -> Answer:
        """200 with the counts of the rest of the window; 503, with the counts so far, of a part.

        The rest begins where the last request of the same window ended, if it was interrupted a
        short time ago. 400 where the window cannot be read. Repeating a request is always safe.
        """
        started = time.perf_counter()
        try:
            window = read_window(_parameters(request))
        except WindowError as error:
            return {"error": "malformed_window", "message": str(error)}, 400
        run = _Run(window, Deadline(self._attempt_seconds))
        reason = ""
        try:
            self._reconcile(run)
        except DimmyError as error:
            reason = str(error)
        except StorageError as error:
            reason = f"storage: {error}"
        if run.left and not reason:
            reason = f"{run.left} items could not be stored"
        places: dict[str, Any] = {}
        if run.began_at and run.began_at > window.start:
            places["began_at"] = run.began_at.isoformat()
        fields = {
            "start_date": window.start.isoformat(),
            "end_date": window.end.isoformat(),
            "milliseconds": round((time.perf_counter() - started) * 1000, 1),
            "trace": request.headers.get("traceparent"),
            **run.counts,
            **run.statistics.log_fields(),
        }
        if reason:
            if run.reached:
                places |= {
                    "reached": run.reached.isoformat(),
                    "complete": run.reached == window.end,
                }
            log(
                "ERROR",
                "reconcile unfinished",
                outcome="unfinished",
                reason=reason,
                **fields,
                **places,
            )
            message = f"Repeat the request: {reason}."
            return {**run.counts, "error": "unfinished", "message": message, **places}, 503
        if run.lists_items is False:
            log("WARNING", "reconcile done", outcome="done", warning=NO_ITEMS, **fields)
            return {**run.counts, "warning": NO_ITEMS}, 200
        log("INFO", "reconcile done", outcome="done", **fields, **places)
        return {**run.counts, **places}, 200

    def _reconcile(self, run: _Run) -> None:
        """Store the items of the window, slice by slice, counting them.

        Raises:
            DimmyError, StorageError: the API or storage failed, or the time is over. What is
                counted is stored, and the next request of this window goes on from there.
        """
        checkpoint = Checkpoint.read(self._store, run.window)
        run.began_at = run.reached = checkpoint.reached
        is_stored = checkpoint.reached > run.window.start
        stored_at = time.monotonic()
        recent: set[str] = set()
        try:
            checkpoint = replace(checkpoint, failed=self._retry(run, checkpoint.failed))
            while checkpoint.reached < run.window.end and run.lists_items is not False:
                end = min(checkpoint.reached + checkpoint.slice_length, run.window.end)
                last, failed, malformed = self._reconcile_slice(
                    run, checkpoint.reached, end, recent
                )
                recent = last
                checkpoint = replace(
                    checkpoint.after_slice(end),
                    failed=(*checkpoint.failed, *failed),
                    malformed=checkpoint.malformed + malformed,
                )
                run.reached = end
                if time.monotonic() - stored_at > _CHECKPOINT_SECONDS:
                    checkpoint.write(self._store, run.window)
                    is_stored, stored_at = True, time.monotonic()
        except DimmyError:
            # What was listed of the slice so far did not help, so the next one is shorter.
            checkpoint = checkpoint.shortened(run.window) if run.has_page else checkpoint
            checkpoint.write(self._store, run.window)
            raise
        run.left = len(checkpoint.failed) + checkpoint.malformed
        if checkpoint.failed:
            checkpoint.write(self._store, run.window)  # the next request tries them again
        elif is_stored:
            self._store.delete_checkpoint(run.window.name)

    def _reconcile_slice(
        self, run: _Run, start: datetime, end: datetime, recent: set[str]
    ) -> tuple[set[str], list[str], int]:
        """Store the items of a slice, except those of `recent`.

        Returns:
            The ids of the last ones, those of the ones that failed, and the number of malformed
            ones.
        """
        window = replace(run.window, start=_just_before(start), end=end)
        last: set[str] = set()
        failed: list[str] = []
        malformed = 0
        run.has_page = False
        try:
            for page in PageReader(self._dimmy, window, run.deadline, run.statistics).read():
                run.has_page = run.lists_items = True
                items = [each for each in page.items if _id(each) not in recent]
                store_one = functools.partial(self._store_one, run, page.fetched_at)
                results = list(self._pool.map(store_one, items))
                run.counts.update(result.counted_as for result in results)
                run.counts["seen"] += len(items)
                failed += [result.failed_id for result in results if result.failed_id]
                malformed += sum(r.counted_as == "failed" and not r.failed_id for r in results)
                if len(failed) > _MAX_FAILED:
                    raise DimmyError(f"{len(failed)} items could not be stored")
                last |= _created_since(page, end - _SLICE_OVERLAP)
                log("INFO", "reconcile in progress", reached=_latest(page), **run.counts)
        except NoItemsError:
            if run.lists_items:
                raise
            run.lists_items = False
        if run.lists_items is None:
            run.lists_items = self._dimmy.has_items(run.deadline, run.statistics)
        return last, failed, malformed

    def _retry(self, run: _Run, item_ids: Iterable[str]) -> tuple[str, ...]:
        """Fetch and store what an earlier run could not store; return what still fails."""
        still_failed = []
        for item_id in item_ids:
            try:
                item, result = self._refresh(run, item_id)
            except NotFoundError:
                log("INFO", "item", item_id=item_id, state="deleted since it was listed")
                continue
            except StorageError as error:
                stored = _failed(item_id, f"storage: {error}")
            except ApiKeyRejectedError:
                raise
            except DimmyError as error:
                if not run.deadline.remaining:
                    raise
                stored = _failed(item_id, str(error))
            else:
                stored = _stored(item, result)
            run.counts.update([stored.counted_as, "seen"])
            if stored.counted_as == "failed":
                still_failed.append(item_id)
        return tuple(still_failed)

    def _store_one(self, run: _Run, fetched_at: datetime, found: Item | MalformedItem) -> _Stored:
        """Store one item of a page."""
        if isinstance(found, MalformedItem):
            log("WARNING", "item", state=f"malformed: {found.reason}")
            return _Stored("failed")
        item = found
        try:
            result = self._store.put_item(item, fetched_at, check_first=True)
            if result is WriteResult.FETCHED_TOO_EARLY:
                item, result = self._refresh(run, item.item_id)
        except NotFoundError:
            return _Stored("unchanged")  # deleted since it was listed; the stored one stays
        except StorageError as error:
            return _failed(item.item_id, f"storage: {error}")
        except DimmyError as error:
            return _failed(item.item_id, str(error))
        return _stored(item, result)

    def _refresh(self, run: _Run, item_id: str) -> tuple[Item, WriteResult]:
        return refresh_item(self._dimmy, self._store, item_id, run.deadline, run.statistics)


def _stored(item: Item, result: WriteResult) -> _Stored:
    if result is WriteResult.NOT_COMPARABLE:
        state = f"malformed: its updated_at is not a time: {item.unreadable_time}"
        return _Stored(_failed(item.item_id, state).counted_as)
    if result is not WriteResult.UNCHANGED:
        log("INFO", "item", item_id=item.item_id, state=result.value)
    return _Stored(_COUNTED_AS[result])


def _failed(item_id: str, state: str) -> _Stored:
    log("WARNING", "item", item_id=item_id, state=state)
    return _Stored("failed", item_id)


def _id(found: Item | MalformedItem) -> str:
    return found.item_id if isinstance(found, Item) else ""


def _just_before(start: datetime) -> datetime:
    """The start of a request for items that were created from `start` on."""
    return start - _SLICE_OVERLAP if start.year > 1 else start


def _created_since(page: Page, time: datetime) -> set[str]:
    return {
        item.item_id
        for item in page.items
        if isinstance(item, Item) and item.created_at and item.created_at.datetime >= time
    }


def _parameters(request: flask.Request) -> dict[str, Any]:
    """The parameters of the query and of a JSON body."""
    body: Any = {}
    if request.mimetype == "application/json":
        try:
            body = read_json(request.get_data(cache=False) or b"{}")
        except NotJsonError as error:
            raise WindowError(f"The body is {error}.") from error
    if not isinstance(body, dict):
        raise WindowError("The body is not a JSON object with start_date and end_date.")
    return body | request.args.to_dict()


def _latest(page: Page) -> str | None:
    """The creation time of the page's newest item, which is how far the window is done."""
    times = [
        item.created_at.datetime
        for item in page.items
        if isinstance(item, Item) and item.created_at
    ]
    return max(times).isoformat() if times else None
