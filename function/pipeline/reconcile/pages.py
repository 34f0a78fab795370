"""Pages through the items of a window."""

from collections.abc import Iterator

from pipeline.dimmy.client import DimmyClient, DimmyError, ItemQuery, TooLargeError
from pipeline.dimmy.deadline import Deadline
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.reconcile.window import Window
from pipeline.store.items import Item, NotAnItemError

PAGE_ITEMS = 200
MAX_REPEATED_PAGES = 5

Page = list[Item | NotAnItemError]


def read_pages(
    dimmy: DimmyClient, window: Window, deadline: Deadline, statistics: RequestStatistics
) -> Iterator[Page]:
    """The items of a window, page by page, with one page in memory.

    Items that are created while it runs move others to a later position, so an item may be returned
    twice. The page size is reduced when a page is too large to be read.

    Raises:
        DimmyError: the API failed, ignores `skip`, or the deadline has passed.
    """
    position = 0
    limit = PAGE_ITEMS
    previous: Page = []
    repeated = 0
    while True:
        try:
            query = ItemQuery(window.start, window.end, position, limit)
            page = dimmy.list_items(query, deadline, statistics)
        except TooLargeError:
            if limit == 1:
                raise
            limit = max(1, limit // 4)
            continue
        if not page:
            return
        # New items can push a page to where the next one is expected, but not again and again.
        repeated = repeated + 1 if page == previous else 0
        if repeated == MAX_REPEATED_PAGES:
            raise DimmyError("the API returns the same page again and again")
        previous = page
        yield page
        position += len(page)
