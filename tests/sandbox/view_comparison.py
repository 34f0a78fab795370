"""Compares the view `items` with the items in the bucket."""

from collections.abc import Mapping
from datetime import datetime

from pipeline.items_topic.item_message import describe
from pipeline.store.items import read_item
from sandbox.warehouse import Warehouse

_Row = tuple[str | None, datetime | None]  # the item's line and its updated_at


def wrong_rows(warehouse: Warehouse, stored: Mapping[str, bytes]) -> list[str]:
    """The ids of items whose row is missing, is there twice, or is not the stored version.

    `stored` has the line of every item in the bucket, by its id. An item above 1 MB has no line in
    the view, so only its `updated_at` is compared.
    """
    rows: dict[str, list[_Row]] = {item_id: [] for item_id in stored}
    for item_id, line, updated_at in warehouse.query(
        "SELECT item_id, item, updated_at FROM items"
    ).rows:
        rows.setdefault(item_id, []).append((line, updated_at))
    return [item_id for item_id, found in rows.items() if not _is_right(found, stored.get(item_id))]


def _is_right(rows: list[_Row], line: bytes | None) -> bool:
    if line is None or len(rows) != 1:
        return False
    ((found, updated_at),) = rows
    expected = describe(read_item(line))
    if expected.item is not None:
        return found == expected.item
    return found is None and updated_at == datetime.fromisoformat(str(expected.updated_at))
