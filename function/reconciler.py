"""The way around: page through the API's items of a window and store what is missing or newer.

It repairs what no webhook told us: a disabled endpoint, an outage beyond the sender's patience,
scans from before the installation. It may run at any time, and as often as one likes: items go
through the same store, so nothing older replaces anything newer.
"""

import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import flask

from budget import Budget
from dimmy import DimmyClient, DimmyError, TooLargeError
from items import Item, NotAnItemError
from logs import log
from settings import FetchSettings
from storage import StorageError, Store, Written

PAGE_ITEMS = 200
MOST_REPEATED_PAGES = 5
DEFAULT_WINDOW = timedelta(hours=48)
_COUNTS = ("seen", "stored", "updated", "unchanged", "failed")

Summary = tuple[dict[str, Any], int]


class WindowError(ValueError):
    """The request asks for no window of time; the text says how to ask."""


@dataclass(frozen=True, slots=True)
class Window:
    """Items created from `start` on and before `end`, both in UTC."""

    start: datetime
    end: datetime


class Reconciler:
    """Answers requests for a reconcile. Opens nothing before the first of them."""

    def __init__(self, settings: FetchSettings) -> None:
        self._store = Store(settings.storage)
        self._dimmy = DimmyClient(settings)
        self._attempt_seconds = settings.attempt_seconds
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="items")

    def handle(self, request: flask.Request) -> Summary:
        """200 with the counts of a whole window; 503, with the counts so far, of half of one.

        400 where the window cannot be understood. Asking again is always safe.
        """
        started = time.perf_counter()
        try:
            window = read_window(_parameters(request))
        except WindowError as error:
            return {"error": "malformed_window", "message": str(error)}, 400
        counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
        reason = ""
        budget = Budget(self._attempt_seconds)
        try:
            self._reconcile(window, counts, budget)
        except DimmyError as error:
            reason = str(error)
        if counts["failed"] and not reason:
            reason = f"{counts['failed']} items could not be stored"
        known = {
            "start_date": window.start.isoformat(),
            "end_date": window.end.isoformat(),
            "milliseconds": round((time.perf_counter() - started) * 1000, 1),
            "trace": request.headers.get("traceparent"),
            **counts,
            **budget.requests_for_log(),
        }
        if reason:
            log("ERROR", "reconcile unfinished", outcome="unfinished", reason=reason, **known)
            return {**counts, "error": "unfinished", "message": f"Ask again: {reason}."}, 503
        log("INFO", "reconcile done", outcome="done", **known)
        return dict(counts), 200

    def _reconcile(self, window: Window, counts: "Counter[str]", budget: Budget) -> None:
        """Go through the window page by page, with one page in memory, counting as it goes.

        New items that appear meanwhile push others to later places, so an item may be seen twice,
        which changes nothing.

        Raises:
            DimmyError: the API failed, or the time is over; what is counted is stored.
        """
        limit = PAGE_ITEMS
        before: list[Item | NotAnItemError] = []
        repeated = 0
        while True:
            try:
                page = self._dimmy.list_items(
                    window.start, window.end, counts["seen"], limit, budget
                )
            except TooLargeError:
                if limit == 1:
                    raise
                limit = max(1, limit // 4)
                continue
            if not page:
                return
            # New items may push a page to where we look next, but not for ever.
            repeated = repeated + 1 if page == before else 0
            if repeated == MOST_REPEATED_PAGES:
                raise DimmyError("the API gives the same page again and again")
            before = page
            counts.update(self._pool.map(self._store_one, page))
            counts["seen"] += len(page)
            log("INFO", "reconcile goes on", reached=_latest(page), **counts)

    def _store_one(self, found: Item | NotAnItemError) -> str:
        """Store one item; return what it counts as."""
        if isinstance(found, NotAnItemError):
            log("WARNING", "item", state=f"malformed: {found}")
            return "failed"
        try:
            written = self._store.put_item(found, probably_there=True)
        except StorageError as error:
            log("WARNING", "item", item_id=found.item_id, state=f"storage: {error}")
            return "failed"
        if written is not Written.UNCHANGED:
            log("INFO", "item", item_id=found.item_id, state=written.value)
        return _COUNTED_AS[written]


_COUNTED_AS = {
    Written.CREATED: "stored",
    Written.REPLACED: "updated",
    Written.UNCHANGED: "unchanged",
}


def read_window(parameters: dict[str, Any]) -> Window:
    """The window of `start_date` and `end_date` (ISO 8601; UTC where no zone is given).

    Without an end it ends now, without a start it begins `hours` before its end, or else 48.

    Raises:
        WindowError: one of them cannot be read, or nothing lies between them.
    """
    unknown = parameters.keys() - {"start_date", "end_date", "hours"}
    if unknown:
        raise WindowError(f"{min(unknown)} is none of start_date, end_date and hours.")
    if "hours" in parameters and "start_date" in parameters:
        raise WindowError("start_date and hours both say when to begin: leave one of them out.")
    end = _read_date(parameters, "end_date") or datetime.now(UTC)
    try:
        start = _read_date(parameters, "start_date") or end - _read_hours(parameters)
    except OverflowError:
        raise WindowError("The window would begin before the year 1.") from None
    if start >= end:
        raise WindowError("start_date is not before end_date.")
    return Window(start, end)


def _parameters(request: flask.Request) -> dict[str, Any]:
    """Of the query, or of a body of JSON."""
    body = request.get_json(silent=True) if request.mimetype == "application/json" else {}
    if not isinstance(body, dict):
        raise WindowError("The body is not a JSON object with start_date and end_date.")
    return body | request.args.to_dict()


def _read_date(parameters: dict[str, Any], name: str) -> datetime | None:
    text = _given(parameters, name)
    if text is None:
        return None
    try:
        date = datetime.fromisoformat(text)
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise WindowError(f"{name} is no date such as 2026-11-01 or 2026-11-01T08:00:00.") from None


def _read_hours(parameters: dict[str, Any]) -> timedelta:
    text = _given(parameters, "hours")
    if text is None:
        return DEFAULT_WINDOW
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise WindowError("hours is no whole number from 1 to 9999.")
    return timedelta(hours=int(text))


def _given(parameters: dict[str, Any], name: str) -> str | None:
    """A parameter as text, whatever JSON it came in; None where it is left out or empty."""
    value = parameters.get(name)
    return None if value is None or value == "" else str(value)


def _latest(page: list[Item | NotAnItemError]) -> str | None:
    """How far the window is done, as far as a page tells."""
    times = [item.created_at for item in page if isinstance(item, Item) and item.created_at]
    return max(times).isoformat() if times else None
