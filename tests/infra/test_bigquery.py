"""BigQuery's views, translated to DuckDB's SQL and run on objects as they are stored.

One of them: .venv/bin/pytest tests/infra/test_bigquery.py -k items
"""

import json
import random
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot

from operate.google.deployment import MODULE
from pipeline.json_text import compact
from pipeline.store.receipts import DeliveryId, Receipt
from sandbox import catalogue

VARIETY = random.Random(7)


def query(view: str, column: str, lines: list[bytes], folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of a view over objects with these lines, by their first column."""
    for number, line in enumerate(lines):
        (folder / f"{number}.json").write_bytes(line)
    # As the external table reads them: a line is one column, and quotes have no meaning.
    source = (
        f"read_csv('{folder}/*.json', delim='\x01', quote='', escape='', header=false,"
        f" columns={{'{column}': 'VARCHAR'}}, max_line_size=33554432)"
    )
    sql = (MODULE / "views" / f"{view}.sql").read_text().replace("`${lines}`", "lines")
    (translated,) = sqlglot.transpile(sql, read="bigquery", write="duckdb")
    with duckdb.connect() as database:
        database.execute(f"CREATE VIEW lines AS SELECT * FROM {source}")
        # Times without a zone, in UTC: DuckDB needs another package to return zones to Python.
        found = database.execute(translated.replace("TIMESTAMPTZ", "TIMESTAMP"))
        names = [column[0] for column in found.description]
        return {row[0]: dict(zip(names, row, strict=True)) for row in found.fetchall()}


@pytest.mark.parametrize("variety", range(3))
def test_the_items_view_has_a_row_with_the_values_of_each_item(
    tmp_path: Path, variety: int
) -> None:
    items = [catalogue.make_item(random.Random(variety * 100 + n)) for n in range(40)]
    lines = [json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode() for item in items]

    rows = query("items", "item", lines, tmp_path)

    assert rows.keys() == {item["_id"] for item in items}
    for item in items:
        row = rows[item["_id"]]
        sides = item.get("dimensioning", [{}])[0].get("dimensions", {})
        weighing = item.get("weighing", [{}])[0]
        photos = [photo for step in item.get("photographing", []) for photo in step["photos"]]
        assert row["flow"] == item["flow_id"]
        assert row["barcode"] == item.get("barcode_scanning", [{}])[0].get("code")
        assert [row[side] for side in ("width", "height", "depth")] == [
            sides.get(side) for side in ("width", "height", "depth")
        ]
        assert (row["length_unit"], row["weight_unit"]) == (sides.get("unit"), weighing.get("unit"))
        assert row["weight"] == weighing.get("weight")
        assert row["photo_count"] == len(photos)
        assert row["created_at"] == datetime.fromisoformat(item["created_at"])
        assert json.loads(row["item"]) == item


def test_the_items_view_accepts_the_vendors_example_and_unexpected_types(tmp_path: Path) -> None:
    unexpected = {
        "_id": "67c861de20bb29fb40d2cbbe",
        "flow_id": 'a "quoted", \\ flow\twith\neverything',
        "dimensioning": [{"dimensions": {"width": "about 12", "unit": None}}],
        "photographing": None,
        "weighing": [],
        "something_new": [[1, 2], {"deep": {"er": True}}],
    }
    lines = [compact(json.dumps(item).encode()) for item in (catalogue.VENDOR_EXAMPLE, unexpected)]

    rows = query("items", "item", lines, tmp_path)

    vendor = rows["67c861de20bb29fb40d2cbbd"]
    assert (vendor["barcode"], vendor["photo_count"]) == ("A0155C35", 1)
    row = rows["67c861de20bb29fb40d2cbbe"]
    assert row["flow"] == unexpected["flow_id"]
    assert (row["width"], row["length_unit"], row["photo_count"]) == (None, None, 0)


def test_the_events_view_has_a_row_with_the_state_of_each_event(tmp_path: Path) -> None:
    receipt = Receipt(
        event_id="msg_1",
        kind="items.scanned",
        delivery=DeliveryId("2026-11-01T08:00:00.123456Z", "1"),
        attempts=3,
        items={"a": "stored", "b": "404: Item not found"},
        payload=b'{"item_ids": ["a", "b"]}',
        redriven=True,
    )

    row = query("events", "receipt", [receipt.line()], tmp_path)["msg_1"]

    assert (row["kind"], row["outcome"], row["attempts"]) == ("items.scanned", "partial", 3)
    assert row["redriven"] is True
    assert row["received_at"] == datetime.fromisoformat("2026-11-01T08:00:00.123456")
