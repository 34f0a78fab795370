"""The views over many versions of many items, in the sandbox's DuckDB."""

import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from bench.load import percentile
from bench.report import Section
from pipeline.items_topic.item_message import describe
from pipeline.store.items import read_item
from sandbox import catalogue
from sandbox.warehouse import ITEM_VERSIONS, WAREHOUSE_FILE, Warehouse

ITEMS = 1_000_000
_QUICK_ITEMS = 20_000
_VERSIONS_PER_ITEM = 1.3
_TRIES = 3
_VARIETY = 50  # different contents
_SCANS_OF_A_BARCODE = 20
_DAYS = 365  # over which the items are spread

# Of these placeholders, the fill makes the values of each version.
_ID, _UPDATED, _CREATED, _CODE = "@id@", "@updated@", "@created@", "@code@"

# The versions of items 0, 1, 2, ...: first one of each, then a second one of some.
_FILL = f"""
INSERT INTO {ITEM_VERSIONS}
SELECT
  'projects/sandbox/subscriptions/items', (10**15)::BIGINT + n, published,
  template.replace('{_ID}', printf('%024x', item))
    .replace('{_UPDATED}', strftime(published, '%Y-%m-%dT%H:%M:%S.000000Z'))
    .replace('{_CREATED}', strftime(created, '%Y-%m-%dT%H:%M:%S.000000Z'))
    .replace('{_CODE}', 'code-' || (item * 7919 % $barcodes)),
  '{{"item-id": "' || printf('%024x', item) || '", "schema": "1"}}'
FROM (
  SELECT
    n, item, $templates[1 + item % len($templates)] AS template,
    $now::TIMESTAMP - to_seconds((item * $seconds / $items)::BIGINT) AS created,
    created + to_seconds(CASE WHEN n < $items THEN 2 ELSE 600 END) AS published
  FROM (
    SELECT n, CASE WHEN n < $items THEN n ELSE ((n - $items) * 3) % $items END AS item
    FROM range($versions) AS numbers(n)
  )
)
"""

QUERIES = {
    "the newest version of one item": (
        "SELECT item_id, updated_at, flow_id, barcode, width_mm, height_mm, depth_mm, weight_g"
        " FROM items WHERE item_id = '{item_id}'"
    ),
    "all versions of one item": (
        "SELECT publish_time, JSON_VALUE(data, '$.updated_at') AS updated_at FROM item_versions"
        " WHERE JSON_VALUE(data, '$.item_id') = '{item_id}' ORDER BY updated_at"
    ),
    "a barcode over the last month": (
        "SELECT created_at, item_id, width_mm, height_mm, depth_mm, weight_g FROM items"
        " WHERE barcode = '{barcode}' AND created_at >= TIMESTAMP '{month_ago}'"
        " ORDER BY created_at"
    ),
    "the scans of each day, by flow": (
        "SELECT DATE(created_at) AS day, flow_id, COUNT(*) AS scans FROM items"
        " GROUP BY day, flow_id"
    ),
}
_NOW = "2026-11-26 12:00:00"
_MONTH_AGO = "2026-10-26 12:00:00+00"


def measure(quick: bool, say: Callable[[str], None]) -> list[Section]:
    """Measure queries of the views."""
    count = _QUICK_ITEMS if quick else ITEMS
    versions = round(count * _VERSIONS_PER_ITEM)
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse(Path(folder) / WAREHOUSE_FILE, threads=os.cpu_count() or 1)
        say(f"{versions} versions of {count} items in DuckDB")
        fill(warehouse, count)
        size = warehouse.query("SELECT SUM(LENGTH(TO_JSON_STRING(data))) FROM item_versions")
        section = Section(
            f"The views over {versions:,} versions of {count:,} items, in DuckDB",
            f"The data column has {size.rows[0][0] / 1e9:.2f} GB of JSON, the file"
            f" {warehouse.file.stat().st_size / 1e9:.2f} GB. Each query is BigQuery's SQL"
            " and opens the file, as `make sql` does.",
            ("", "rows", "tries", "p50 ms", "slowest ms"),
        )
        for name, query in QUERIES.items():
            say(name)
            rows, times = ask(warehouse, query, count)
            section.rows.append((name, f"{rows:,}", str(_TRIES), percentile(times, 50), max(times)))
    return [section]


def fill(warehouse: Warehouse, items: int) -> None:
    """Create the tables, with 1.3 versions of so many items."""
    warehouse.create()
    with duckdb.connect(str(warehouse.file)) as database:
        database.execute("SET TimeZone = 'UTC'")
        database.execute(
            _FILL,
            {
                "templates": _templates(),
                "barcodes": max(1, items // _SCANS_OF_A_BARCODE),
                "items": items,
                "versions": round(items * _VERSIONS_PER_ITEM),
                "seconds": _DAYS * 86_400,
                "now": _NOW,
            },
        )


def ask(warehouse: Warehouse, query: str, items: int) -> tuple[int, list[float]]:
    """The number of rows, and the milliseconds of each try."""
    rng = random.Random(1)
    rows, times = 0, []
    for _ in range(_TRIES):
        item = rng.randrange(items // 20)  # of the last weeks
        barcode = item * 7919 % max(1, items // _SCANS_OF_A_BARCODE)
        sql = query.format(item_id=f"{item:024x}", barcode=f"code-{barcode}", month_ago=_MONTH_AGO)
        started = time.perf_counter()
        rows = len(warehouse.query(sql).rows)
        times.append((time.perf_counter() - started) * 1000)
        if not rows:
            raise RuntimeError(f"no rows: {sql}")
    return rows, times


def _templates() -> list[str]:
    """Messages of different items, with placeholders."""
    rng = random.Random(1)
    templates = []
    for _ in range(_VARIETY):
        item = catalogue.make_item(rng)
        item["barcode_scanning"] = [{"flow_step_id": "barcode", "code": _CODE}]
        item_id, time_of_item = item["_id"], item["updated_at"]
        line = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
        message = json.loads(describe(read_item(line), "msg_1").data())
        message |= {"updated_at": _UPDATED, "created_at": _CREATED}
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
        templates.append(text.replace(item_id, _ID).replace(time_of_item, _UPDATED))
    return templates
