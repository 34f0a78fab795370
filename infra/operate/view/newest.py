"""Finds the newest objects with a prefix, without listing millions of older ones."""

import heapq
import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from operate.object_listing import Listed, ObjectListing

# A bucket is searched backwards in time, in spans that grow while they contain few objects.
_FIRST_SPAN = timedelta(hours=1)
_GROWTH = 4
_SHORTEST_SPAN = timedelta(minutes=1)
_EVERYTHING = timedelta(days=40 * 365)
# A span with many more objects than are wanted is divided.
_MORE_THAN_WANTED = 4
_LEAST_OBJECTS = 5_000


class Newest:
    """The newest objects whose names begin with a prefix, at most `limit`.

    In a folder they are those that were written last. In a bucket, whose objects are listed in the
    order of their names, they are those with the latest times in their names; `first_name` makes a
    name of a time. `since` is the time from which on objects were looked for, None for all;
    `left_out` is how many more were found than are wanted, and `is_cut` whether there are any.
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
        self.is_cut = False
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
        newest: list[Listed] = []
        tomorrow = self._name_of(datetime.now(UTC) + timedelta(days=1))

        def time_ordered_name(listed: Listed) -> str:
            # The names of events that our own commands send are after all of Svix's.
            in_order = listed.name < tomorrow
            return listed.name if in_order else self._name_of(listed.written_at)

        for found in self._latest_names():
            newest = self._newest(found, time_ordered_name)
            yield newest
        if self.left_out > self._limit:
            # From now on, what is older than these is not looked at.
            self._start = min(map(time_ordered_name, newest))

    def _newest(self, found: list[Listed], order: Callable[[Listed], Any]) -> list[Listed]:
        newest = heapq.nlargest(self._limit, found, key=order)
        self.left_out = len(found) - len(newest)
        self.is_cut |= self.left_out > 0
        return newest

    def _latest_names(self) -> Iterator[list[Listed]]:
        """The objects found so far, after each span; later calls list everything in one step."""
        if self._start is not None:
            yield list(self._objects(self._start, ""))
            return
        found: list[Listed] = []
        most = max(_MORE_THAN_WANTED * self._limit, _LEAST_OBJECTS)
        now, age, span, end = datetime.now(UTC), timedelta(0), _FIRST_SPAN, ""
        while age < _EVERYTHING and len(found) < self._limit:
            start = self._name_of(now - age - span) if age + span < _EVERYTHING else ""
            older = list(itertools.islice(self._objects(start, end), most + 1))
            if len(older) > most and span > _SHORTEST_SPAN:
                span = max(span / _GROWTH, _SHORTEST_SPAN)
                continue
            if len(older) > most:
                older = list(self._objects(start, end))
            found = [*older, *found]
            age, end = age + span, start
            self.since = now - age if start else None
            yield found
            span *= _GROWTH
        self._start = end

    def _name_of(self, time: datetime) -> str:
        return f"{self.prefix}{self._first_name(time)}"

    def _objects(self, start: str, end: str) -> Iterator[Listed]:
        for page in self._listing.pages(self.prefix, start, end):
            for each in page:
                if each.name.endswith(".json"):
                    yield each
