"""Pages through the items of a window."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.deadline import Deadline
from pipeline.dimmy.client import (
    DimmyClient,
    DimmyError,
    ItemQuery,
    RateLimitedError,
    TransientError,
    UnreadableError,
)
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.reconcile.window import Window
from pipeline.store.items import Item, MalformedItem

PAGE_ITEMS = 200
MAX_RESTARTS = 5

_LEAST_ITEMS = 2  # the last item of the page before, and one more


@dataclass(frozen=True, slots=True)
class Page:
    """Items that were not on the page before, and when the request for them began."""

    items: Sequence[Item | MalformedItem]
    fetched_at: datetime


class PageReader:
    """Reads the items of a window, page by page, with two pages in memory.

    The API pages by offset, and offsets shift while items are created and deleted. So each page
    begins with the last item of the page before. A page without any item of the page before shows
    that items before it were deleted or created, and then the reader goes back. So an item may come
    twice.

    A page that cannot be read is read in smaller ones, as long as the API answers other requests.
    An item that cannot be read even alone becomes a MalformedItem, and the next items follow.
    """

    def __init__(
        self, dimmy: DimmyClient, window: Window, deadline: Deadline, statistics: RequestStatistics
    ) -> None:
        self._dimmy = dimmy
        self._window = window
        self._deadline = deadline
        self._statistics = statistics
        self._limit = PAGE_ITEMS

    def read(self) -> Iterator[Page]:
        """The pages of the window. Its end is an answer of the API, never a missing answer.

        Raises:
            DimmyError: the API failed, its pages do not fit together, or the deadline has passed.
        """
        known: set[object] = set()
        start = restarts = 0
        back = 1
        while True:
            page = self._read(start)
            keys = _keys(page.items)
            if start and not keys & known:
                start = max(0, start - back)
                back *= 2
                restarts += start == 0
                if restarts > MAX_RESTARTS:
                    raise DimmyError("the API lists its items in another order each time")
                continue
            if keys and keys <= known:
                # Nothing but the last item of the page before: is it the last one of all?
                last_place = start + len(page.items) - 1
                last_key = _key(page.items[-1])
                page = self._read(last_place + 1)
                keys = _keys(page.items)
                if keys and keys <= known:
                    raise DimmyError("the API returns the same page again and again")
                if keys and not self._is_at(last_place, last_key):
                    continue  # the places have changed in between
                start = last_place + 1
            if not keys:
                return
            yield Page([item for item in page.items if _key(item) not in known], page.fetched_at)
            known = keys
            start += len(page.items) - 1
            back = 1

    def _read(self, start: int) -> Page:
        """The page from a place on, as large as can be read."""
        fetched_at = datetime.now(UTC)
        while True:
            try:
                page = Page(self._list(start, self._limit), fetched_at)
            except (UnreadableError, TransientError) as error:
                self._raise_if_api_is_down(error)
                if self._limit == _LEAST_ITEMS:
                    return Page(self._read_one_by_one(start), fetched_at)
                self._limit = max(_LEAST_ITEMS, self._limit // 4)
            else:
                self._limit = min(PAGE_ITEMS, self._limit * 2)
                return page

    def _read_one_by_one(self, start: int) -> list[Item | MalformedItem]:
        """Two items, each with a request of its own; both are from the same state of the list."""
        for _ in range(MAX_RESTARTS):
            first = self._read_one(start)
            second = self._read_one(start + 1)
            if _keys(first) == _keys(self._read_one(start)):
                return first + second
        raise DimmyError("the API lists its items in another order each time")

    def _read_one(self, place: int) -> list[Item | MalformedItem]:
        try:
            return self._list(place, 1)
        except (UnreadableError, TransientError) as error:
            self._raise_if_api_is_down(error)
            name = f"item {place + 1} of the window from {self._window.start}"
            return [MalformedItem(f"{name}: {error}", name.encode())]

    def _is_at(self, place: int, key: object) -> bool:
        return key in _keys(self._read_one(place))

    def _raise_if_api_is_down(self, error: DimmyError) -> None:
        """A page that fails again and again may have an item that the API cannot return.

        Raises:
            DimmyError: it is not that: the API fails for other requests, too.
        """
        if isinstance(error, RateLimitedError):
            raise error
        if isinstance(error, TransientError):
            self._dimmy.has_items(self._deadline, self._statistics)

    def _list(self, skip: int, limit: int) -> list[Item | MalformedItem]:
        query = ItemQuery(self._window.start, self._window.end, skip, limit)
        return self._dimmy.list_items(query, self._deadline, self._statistics)


def _keys(items: Sequence[Item | MalformedItem]) -> set[object]:
    return {_key(item) for item in items}


def _key(item: Item | MalformedItem) -> object:
    return item.item_id if isinstance(item, Item) else item.text
