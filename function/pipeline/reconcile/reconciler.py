"""The backfill handler: pages through the API's items of a window and stores what is missing.

It stores items whose webhook never arrived: the endpoint was disabled, an outage lasted longer than
the sender's retries, or the scan is older than the installation. It may run at any time and as
often as needed, because an item never replaces a newer one.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import flask

from pipeline.deadline import Deadline
from pipeline.dimmy.client import (
    DimmyClient,
    DimmyError,
    NoItemsError,
)
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.items_topic.topic import ItemsTopic
from pipeline.json_text import NotJsonError, read_json, without_byte_order_mark
from pipeline.logs import log, stack_trace
from pipeline.reconcile.checkpoint import Checkpoint
from pipeline.reconcile.counts import COUNTS
from pipeline.reconcile.pages import Page, PageReader
from pipeline.reconcile.settings import ReconcileSettings
from pipeline.reconcile.storing import Attempt, Failures, ItemStorer
from pipeline.reconcile.window import Window, WindowError, read_window
from pipeline.store.errors import StorageError
from pipeline.store.items import Item, MalformedItem
from pipeline.store.store import Store
from pipeline.unforeseen import state_after

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
    attempt: Attempt
    began_at: datetime | None = None
    reached: datetime | None = None
    left: int = 0  # items of the complete window that are not stored
    has_page: bool = False  # of the current slice
    lists_items: bool | None = None  # None: not known yet


class Reconciler:
    """Answers requests for a window. Connects to nothing before the first of them."""

    def __init__(self, settings: ReconcileSettings) -> None:
        self._store = Store(settings.storage)
        self._dimmy = DimmyClient(settings.dimmy)
        self._attempt_seconds = settings.attempt_seconds
        topic = ItemsTopic(settings.items_topic)
        self._storer = ItemStorer(self._store, self._dimmy, topic, settings.dimmy.concurrency)

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
        counts = Counter(dict.fromkeys(COUNTS, 0))
        attempt = Attempt(Deadline(self._attempt_seconds), RequestStatistics(), counts)
        run = _Run(window, attempt)
        reason = ""
        details: dict[str, str] = {}
        try:
            self._reconcile(run)
        except DimmyError as error:
            reason = str(error)
        except StorageError as error:
            reason = f"storage: {error}"
        except Exception as error:  # noqa: BLE001  # see pipeline.unforeseen
            reason = state_after(error)
            details = stack_trace(error)
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
            **counts,
            **attempt.statistics.log_fields(),
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
                **details,
            )
            message = f"Repeat the request: {reason}."
            return {**counts, "error": "unfinished", "message": message, **places}, 503
        if run.lists_items is False:
            log("WARNING", "reconcile done", outcome="done", warning=NO_ITEMS, **fields)
            return {**counts, "warning": NO_ITEMS}, 200
        log("INFO", "reconcile done", outcome="done", **fields, **places)
        return {**counts, **places}, 200

    def _reconcile(self, run: _Run) -> None:
        """Store the items of the window, slice by slice, counting them.

        Raises:
            DimmyError, StorageError: the API or storage failed, or the time is over. What is
                counted is stored, and the next request of this window goes on from there.
        """
        checkpoint = Checkpoint.read(self._store, run.window)
        run.began_at = run.reached = checkpoint.reached
        stored_at = time.monotonic()
        recent: set[str] = set()
        try:
            # Half of the time, so that items that fail slowly do not keep the rest from being read.
            is_listed = checkpoint.reached == run.window.end
            share = run.attempt.deadline if is_listed else Deadline(self._attempt_seconds / 2)
            failed, malformed = self._storer.retry(checkpoint.failed, run.attempt, share)
            checkpoint = replace(
                checkpoint, failed=tuple(failed), malformed=checkpoint.malformed + malformed
            )
            while checkpoint.reached < run.window.end:
                rest = run.window.end - checkpoint.reached
                end = checkpoint.reached + min(checkpoint.slice_length, rest)
                recent, failures = self._reconcile_slice(run, checkpoint.reached, end, recent)
                if run.lists_items is False:
                    break  # this slice was not listed either
                checkpoint = replace(
                    checkpoint.after_slice(end),
                    failed=tuple(dict.fromkeys([*checkpoint.failed, *failures.item_ids])),
                    malformed=checkpoint.malformed + failures.malformed,
                )
                run.reached = end
                if time.monotonic() - stored_at > _CHECKPOINT_SECONDS:
                    checkpoint.write(self._store, run.window)
                    stored_at = time.monotonic()
        except StorageError:
            raise
        except Exception:
            # What was listed of the slice so far did not help, so the next one is shorter.
            checkpoint = checkpoint.shortened(run.window) if run.has_page else checkpoint
            checkpoint.write(self._store, run.window)
            raise
        run.left = len(checkpoint.failed) + checkpoint.malformed
        if checkpoint.failed or run.window.start < checkpoint.reached < run.window.end:
            checkpoint.write(self._store, run.window)  # the next request goes on from there
        else:
            self._store.delete_checkpoint(run.window.name)

    def _reconcile_slice(
        self, run: _Run, start: datetime, end: datetime, recent: set[str]
    ) -> tuple[set[str], Failures]:
        """Store the items of a slice, except those of `recent`.

        Returns:
            The ids of the last ones, and what could not be stored.
        """
        window = replace(run.window, start=_just_before(start), end=end)
        attempt = run.attempt
        reader = PageReader(self._dimmy, window, attempt.deadline, attempt.statistics)
        last: set[str] = set()
        failures = Failures([], 0)
        run.has_page = False
        try:
            for page in reader.read():
                run.has_page = run.lists_items = True
                items = [each for each in page.items if _id(each) not in recent]
                failed_ids, malformed = self._storer.store_page(items, page.fetched_at, attempt)
                failures = Failures(failures.item_ids + failed_ids, failures.malformed + malformed)
                if len(failures.item_ids) > _MAX_FAILED:
                    raise DimmyError(f"{len(failures.item_ids)} items could not be stored")
                last |= _created_since(page, end - _SLICE_OVERLAP)
                log("INFO", "reconcile in progress", reached=_latest(page), **attempt.counts)
        except NoItemsError:
            if run.lists_items:
                raise
            run.lists_items = False
        if run.lists_items is None:
            run.lists_items = self._dimmy.has_items(attempt.deadline, attempt.statistics)
        return last, failures


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
    """The parameters of the query and of a JSON body, whatever its content type says.

    Schedulers and command-line programs send JSON under many types.
    """
    text = without_byte_order_mark(request.get_data(cache=False)).strip()
    try:
        body = read_json(text or b"{}")
    except NotJsonError as error:
        raise WindowError(f"The body is {error}. Send a JSON object, or no body.") from error
    if not isinstance(body, dict):
        raise WindowError("The body is not a JSON object with start_date and end_date.")
    names = [name for name, _ in json.loads(text or b"{}", object_pairs_hook=list)]
    names += [name for name, _ in request.args.items(multi=True)]
    for name, times in Counter(names).items():
        if times > 1:
            raise WindowError(f"{name} is given {times} times: give it once.")
    return body | request.args.to_dict()


def _latest(page: Page) -> str | None:
    """The creation time of the page's newest item, which is how far the window is done."""
    times = [
        item.created_at.datetime
        for item in page.items
        if isinstance(item, Item) and item.created_at
    ]
    return max(times).isoformat() if times else None
