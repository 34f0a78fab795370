"""Compares the items that Dimmy's API lists with those in storage."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import obstore

from operate.installation import open_objects
from operate.object_listing import ObjectListing
from operate.time_ordered_ids import time_in
from pipeline.deadline import Deadline
from pipeline.dimmy.client import DimmyClient
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.json_text import NotJsonError
from pipeline.layout import ITEMS, item_name
from pipeline.reconcile.pages import PageReader
from pipeline.reconcile.window import Window
from pipeline.store.items import Item, MalformedItem, NotAnItemError, Order, read_item
from pipeline.store.settings import StorageSettings

_READERS = 32
_SECONDS = 24 * 3600.0
# How much the time in an id, which a phone may have assigned, may differ from `created_at`.
_ID_TOLERANCE = timedelta(days=7)
# It is not documented whether the API includes the bounds of a window: it is asked for more.
_OVERLAP = timedelta(seconds=1)


@dataclass
class Day:
    """The items created from `start` on and before `end`: numbers, and the ids that differ."""

    start: datetime
    end: datetime
    listed: int = 0
    stored: int = 0
    missing: list[str] = field(default_factory=list)
    older: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    only_stored: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether everything that the API lists is stored in its latest version."""
        return not (self.missing or self.older or self.malformed)


class Comparison:
    """Compares day by day.

    Raises DimmyError, ListingError, or obstore's errors, where it cannot go on.
    """

    def __init__(self, dimmy: DimmyClient, settings: StorageSettings) -> None:
        self._dimmy = dimmy
        self._storage = open_objects(settings)
        self._listing = ObjectListing(settings)
        self._deadline = Deadline(_SECONDS)
        self._pool = ThreadPoolExecutor(_READERS)
        self._listed: set[str] = set()

    def compare_day(self, start: datetime, end: datetime) -> Day:
        """Compare what the API lists for a day, or another length of time."""
        day = Day(start, end)
        window = Window(start - _OVERLAP, end, "")
        for page in PageReader(self._dimmy, window, self._deadline, RequestStatistics()).read():
            items = [each for each in page.items if not _is_of_another_day(each, day)]
            day.listed += len(items)
            for item, stored in zip(items, self._pool.map(self._find, items), strict=True):
                if isinstance(item, MalformedItem):
                    day.malformed.append(item.reason)
                    continue
                self._listed.add(item.item_id)
                if stored is None:
                    day.missing.append(item.item_id)
                elif item.compare(stored) in {Order.NEWER, Order.UNKNOWN}:
                    day.older.append(item.item_id)
                else:
                    day.stored += 1
        return day

    def add_only_stored(self, days: Iterable[Day]) -> None:
        """Add the stored items of these days that the API has not listed."""
        by_start = sorted(days, key=lambda day: day.start)
        start, end = by_start[0].start - _ID_TOLERANCE, by_start[-1].end + _ID_TOLERANCE
        names = (name for name in self._stored_names(start, end) if name not in self._listed)
        for item in self._pool.map(self._read, names):
            created_at = item.created_at.datetime if item and item.created_at else None
            for day in by_start:
                if item and created_at and day.start <= created_at < day.end:
                    day.only_stored.append(item.item_id)

    def lists_items(self) -> bool:
        """Whether the API lists any item at all."""
        return bool(self._listed) or self._dimmy.has_items(self._deadline, RequestStatistics())

    def _stored_names(self, start: datetime, end: datetime) -> Iterator[str]:
        """The ids of stored items that may have been created from `start` to `end`."""
        for stored in self._listing.names(f"{ITEMS}/"):
            name = stored.removeprefix(f"{ITEMS}/").removesuffix(".json")
            created_at = time_in(name)
            if created_at is None or start <= created_at < end:
                yield name

    def _find(self, item: Item | MalformedItem) -> Item | None:
        return self._read(item.item_id) if isinstance(item, Item) else None

    def _read(self, item_id: str) -> Item | None:
        try:
            return read_item(bytes(obstore.get(self._storage, item_name(item_id)).bytes()))
        except (FileNotFoundError, NotJsonError, NotAnItemError):
            return None


def _is_of_another_day(item: Item | MalformedItem, day: Day) -> bool:
    """Whether an item has been listed only because windows overlap, or include their end."""
    if not isinstance(item, Item) or not item.created_at:
        return False
    created_at = item.created_at.datetime
    return day.start - _OVERLAP <= created_at < day.start or created_at == day.end
