"""Finds the newest objects with a prefix, without listing millions of older ones."""

import heapq
import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from operate.object_listing import Listed, ObjectListing

# How far back a bucket is looked at, until there are enough objects. None: everything.
_SPANS = (
    timedelta(hours=1),
    timedelta(days=1),
    timedelta(days=7),
    timedelta(days=30),
    timedelta(days=120),
    timedelta(days=365),
    None,
)
# A span of many more objects than are wanted is not read to its end.
_MORE_THAN_WANTED = 4
_LEAST_OBJECTS = 20_000


class Newest:
    """The newest objects whose names begin with a prefix, at most `limit`.

    In a folder they are those that were written last. In a bucket, whose objects are listed in the
    order of their names, they are those with the latest names, which `first_name` makes of times.
    `since` is the time from which on all objects were found, None for all; `left_out` is how many
    more were found than are wanted.
    """

    def __init__(
        self,
        listing: ObjectListing,
        prefix: str,
        first_name: Callable[[datetime], str],
        limit: int,
    ) -> None:
        self.prefix = prefix
        self.since: datetime | None = None
        self.left_out = 0
        self._listing = listing
        self._first_name = first_name
        self._limit = limit
        self._start: str | None = None  # the name to begin with, once that is known

    def find(self) -> Iterator[list[Listed]]:
        """The newest objects so far, the newest first, and more of them each time.

        Raises:
            ListingError: they cannot be listed.
        """
        if not self._listing.is_sorted:
            yield self._newest(list(self._objects("", "")), lambda each: each.written_at)
            return
        for found in self._latest_names():
            yield self._newest(found, lambda each: each.name)

    def _newest(self, found: list[Listed], order: Callable[[Listed], Any]) -> list[Listed]:
        newest = heapq.nlargest(self._limit, found, key=order)
        self.left_out = len(found) - len(newest)
        return newest

    def _latest_names(self) -> Iterator[list[Listed]]:
        """The first time, span by span; then at once."""
        if self._start is not None:
            yield list(self._objects(self._start, ""))
            return
        found: list[Listed] = []
        most = max(_MORE_THAN_WANTED * self._limit, _LEAST_OBJECTS)
        now, end = datetime.now(UTC), ""
        reached: str | None = None
        for span in _SPANS:
            since = now - span if span else None
            start = f"{self.prefix}{self._first_name(since)}" if since else ""
            older = list(itertools.islice(self._objects(start, end), most + 1))
            if found and len(older) > most:
                break
            found = [*found, *older]
            self.since, reached, end = since, start, start
            yield found
            if len(found) >= self._limit:
                break
        self._start = reached

    def _objects(self, start: str, end: str) -> Iterator[Listed]:
        for page in self._listing.pages(self.prefix, start, end):
            for each in page:
                if each.name.endswith(".json"):
                    yield each
