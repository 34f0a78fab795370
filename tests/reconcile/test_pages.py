"""The page reader against lists that change at any moment.

One of them: .venv/bin/pytest tests/reconcile/test_pages.py -k 17
"""

import random
from datetime import UTC, datetime
from typing import cast

import pytest

from pipeline.deadline import Deadline
from pipeline.dimmy.client import DimmyClient, ItemQuery, UnreadableError
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.reconcile.pages import PageReader
from pipeline.reconcile.window import Window
from pipeline.store.items import Item, MalformedItem

WINDOW = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC), "test")


class ChangingList:
    """An API whose items are deleted between any two requests, some of which it cannot return."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.ids = [f"{number:03}" for number in range(self._rng.choice([1, 2, 150, 401]))]
        self._max_items = self._rng.choice([7, 50, 1000])
        share = self._rng.choice([0.0, 0.0, 0.05])
        self.unreadable = {each for each in self.ids if self._rng.random() < share}
        self._change_share = self._rng.choice([0.0, 0.1, 0.4])

    def list_items(
        self, query: ItemQuery, _: Deadline, __: RequestStatistics
    ) -> list[Item | MalformedItem]:
        if self._rng.random() < self._change_share:
            for _each in range(min(len(self.ids), self._rng.choice([1, 1, 2, 30]))):
                self.ids.remove(self._rng.choice(self.ids))
        page = self.ids[query.skip : query.skip + min(query.limit, self._max_items)]
        if self.unreadable & set(page):
            raise UnreadableError("too large")
        return [Item(item_id, None, b"") for item_id in page]


@pytest.mark.parametrize("seed", range(60))
def test_every_item_that_stays_is_read(seed: int) -> None:
    changing = ChangingList(seed)
    reader = PageReader(cast("DimmyClient", changing), WINDOW, Deadline(60), RequestStatistics())

    read = [item for page in reader.read() for item in page.items]

    read_ids = {item.item_id for item in read if isinstance(item, Item)}
    assert set(changing.ids) - changing.unreadable <= read_ids
