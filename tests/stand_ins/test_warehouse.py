"""The warehouse: rows survive, other processes can read them, and queries are BigQuery's SQL.

One of them: .venv/bin/pytest tests/stand_ins/test_warehouse.py -k killed
"""

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from pipeline.items_topic.item_message import describe
from pipeline.store.items import read_item
from sandbox import warehouse as warehouse_module
from sandbox.bigquery_rows import Row, TableNotFoundError, as_row
from sandbox.processes import Process
from sandbox.view_comparison import wrong_rows
from sandbox.warehouse import (
    ITEM_VERSIONS,
    WAREHOUSE_FILE,
    QueryError,
    Warehouse,
    WarehouseError,
    translate,
    view_query,
)
from support.waiting import wait_for

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)

# Writes rows one after the other, and prints the id of each as soon as it is written.
WRITER = f"""
import itertools, pathlib, sys
from datetime import UTC, datetime
from sandbox.bigquery_rows import as_row
from sandbox.warehouse import Warehouse

warehouse = Warehouse(pathlib.Path(sys.argv[1]))
for number in itertools.count():
    warehouse.write("{ITEM_VERSIONS}", [as_row("s", str(number), datetime.now(UTC), b"{{}}", {{}})])
    print(number, flush=True)
"""
# Keeps the file open for reading until the file exists that its second argument names.
READER = """
import duckdb, pathlib, sys, time

with duckdb.connect(sys.argv[1], read_only=True):
    print("open", flush=True)
    while not pathlib.Path(sys.argv[2]).exists():
        time.sleep(0.01)
"""


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    warehouse = Warehouse(tmp_path / WAREHOUSE_FILE)
    warehouse.create()
    return warehouse


def row(message_id: str, data: bytes = b"{}", published: datetime = NOON) -> Row:
    return as_row("projects/sandbox/subscriptions/s", message_id, published, data, {})


def message_ids(warehouse: Warehouse) -> list[str]:
    return [found[0] for found in warehouse.query("SELECT message_id FROM item_versions").rows]


def start(program: str, *arguments: str) -> Process:
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    return Process([sys.executable, "-c", program, *arguments], environment)


@pytest.fixture
def writer(warehouse: Warehouse) -> Iterator[Process]:
    """A process that writes all the time."""
    process = start(WRITER, str(warehouse.file))
    wait_for(lambda: process.lines, "the first row")
    yield process
    process.stop()


# Several processes


def test_a_process_that_is_killed_has_lost_none_of_the_rows_that_it_has_written(
    warehouse: Warehouse, writer: Process
) -> None:
    wait_for(lambda: len(writer.lines) >= 30, "30 rows")

    writer.kill()

    acknowledged = set(writer.lines)
    found = message_ids(warehouse)
    assert acknowledged <= set(found)
    assert len(found) == len(set(found)) <= len(acknowledged) + 1
    warehouse.write(ITEM_VERSIONS, [row("later")])
    assert "later" in message_ids(warehouse)


def test_the_table_can_be_queried_while_another_process_writes_to_it(
    warehouse: Warehouse, writer: Process
) -> None:
    counts = []
    for _ in range(20):
        written = len(writer.lines)
        counts.append(len(message_ids(warehouse)))
        assert counts[-1] >= written

    assert counts == sorted(counts)
    assert writer.is_running
    wait_for(lambda: len(writer.lines) > counts[-1], "further rows")


def test_a_write_waits_while_another_process_reads(warehouse: Warehouse, tmp_path: Path) -> None:
    reader = start(READER, str(warehouse.file), str(tmp_path / "enough"))
    wait_for(lambda: reader.lines, "the reader")
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(warehouse.write, ITEM_VERSIONS, [row("1")])
        (tmp_path / "enough").touch()

        writing.result()

    assert reader.wait() == 0
    assert message_ids(warehouse) == ["1"]


def test_a_file_that_stays_locked_is_reported(
    warehouse: Warehouse, writer: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.stop()
    reader = start(READER, str(warehouse.file), str(tmp_path / "enough"))
    wait_for(lambda: reader.lines, "the reader")
    monkeypatch.setattr(warehouse_module, "LOCK_SECONDS", 0.05)

    with pytest.raises(WarehouseError, match=r"cannot be opened: .*Could not set lock"):
        warehouse.write(ITEM_VERSIONS, [row("1")])

    reader.stop()
    warehouse.write(ITEM_VERSIONS, [row("2")])
    assert "2" in message_ids(warehouse)


def test_threads_and_several_warehouses_of_a_process_share_a_file(warehouse: Warehouse) -> None:
    others = [warehouse, Warehouse(warehouse.file), Warehouse(warehouse.file)]
    expected = {f"{number}-{n}" for number in range(3) for n in range(20)}

    def write_and_read(number: int) -> None:
        for n in range(20):
            others[number].write(ITEM_VERSIONS, [row(f"{number}-{n}")])
            assert f"{number}-{n}" in message_ids(others[number])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write_and_read, range(3)))

    assert set(message_ids(warehouse)) == expected
    assert threading.active_count() < 50


# Tables


def test_creating_it_again_keeps_the_rows(warehouse: Warehouse) -> None:
    warehouse.write(ITEM_VERSIONS, [row("1"), row("2")])

    warehouse.create()
    again = Warehouse(warehouse.file)
    again.create()

    assert message_ids(again) == ["1", "2"]


def test_a_missing_table_is_reported_and_nothing_stays_open(warehouse: Warehouse) -> None:
    with pytest.raises(TableNotFoundError, match="missing"):
        warehouse.write("missing", [row("1")])

    assert not warehouse.has_table("missing")
    assert not warehouse.has_table("items"), "a view"
    assert warehouse.has_table(ITEM_VERSIONS)


def test_a_file_that_is_no_database_is_reported_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / WAREHOUSE_FILE
    file.write_text("not a database " * 1000)

    with pytest.raises(WarehouseError, match=r"scans\.duckdb cannot be opened") as raised:
        Warehouse(file).create()

    assert "\n" not in str(raised.value)
    assert file.read_text().startswith("not a database")


# The view and the bucket


def line_of(item_id: str, updated_at: str, notes: str = "") -> bytes:
    return b'{"_id":"%s","updated_at":"%s","notes":"%s"}' % (
        item_id.encode(),
        updated_at.encode(),
        notes.encode(),
    )


def write_versions(warehouse: Warehouse, *lines: bytes) -> None:
    messages = [describe(read_item(line)).data() for line in lines]
    rows = [row(str(number), data) for number, data in enumerate(messages)]
    warehouse.write(ITEM_VERSIONS, rows)


def test_the_view_equals_the_bucket(warehouse: Warehouse) -> None:
    old, new = line_of("a", "2026-11-26T10:00:00.001"), line_of("a", "2026-11-26T10:00:00.002")
    large = line_of("large", "2026-11-26T10:00:00", "x" * 1_000_001)
    write_versions(warehouse, new, old, new, large)

    assert wrong_rows(warehouse, {"a": new, "large": large}) == []


def test_every_difference_between_the_view_and_the_bucket_is_found(warehouse: Warehouse) -> None:
    early, late = "2026-11-26T10:00:00", "2026-11-26T11:00:00"
    large = [line_of("large", time, "x" * 1_000_001) for time in (early, late)]
    published = [line_of(name, early) for name in ("right", "older", "only in the view")]
    write_versions(warehouse, *published[:2], line_of("extra", early), large[0])
    stored = {
        "right": published[0],
        "older": line_of("older", late),
        "missing": line_of("missing", early),
        "large": large[1],
    }

    assert set(wrong_rows(warehouse, stored)) == {"older", "missing", "large", "extra"}


def test_a_row_that_is_there_twice_is_wrong(warehouse: Warehouse) -> None:
    line = line_of("a", "2026-11-26T10:00:00")
    write_versions(warehouse, line)
    once = view_query("items", ITEM_VERSIONS)
    with duckdb.connect(str(warehouse.file)) as database:
        database.execute(f"CREATE OR REPLACE VIEW items AS ({once}) UNION ALL ({once})")

    assert wrong_rows(warehouse, {"a": line}) == ["a"]


# Queries


def test_an_answer_has_the_types_of_bigquery(warehouse: Warehouse) -> None:
    warehouse.write(ITEM_VERSIONS, [row("1", b'{"a": [1, {"b": null}]}')])

    answer = warehouse.query(
        "SELECT publish_time, DATE(publish_time) AS day, data, COUNT(*) OVER (), 1.5, 'x',"
        " CAST(NULL AS STRING) AS nothing, publish_time FROM `any-project.dimmy.item_versions` v"
        " WHERE v.publish_time > TIMESTAMP_SUB(TIMESTAMP '2026-11-27 00:00:00+00',"
        " INTERVAL 30 DAY)"
    )

    assert answer.columns == [
        "publish_time",
        "day",
        "data",
        "f3_",
        "f4_",
        "f5_",
        "nothing",
        "publish_time",
    ]
    ((published, day, data, count, number, text, nothing, again),) = answer.rows
    assert published == again == NOON
    assert day == date(2026, 11, 26)
    assert data == '{"a": [1, {"b": null}]}'
    assert (count, float(number), text, nothing) == (1, 1.5, "x", None)


def test_the_order_of_a_query_is_kept(warehouse: Warehouse) -> None:
    warehouse.write(ITEM_VERSIONS, [row(f"{number:03}") for number in range(500)])

    answer = warehouse.query(
        "SELECT publish_time, message_id FROM item_versions ORDER BY message_id DESC"
    )

    assert [found[1] for found in answer.rows] == [f"{n:03}" for n in reversed(range(500))]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT item_id FROM items",
        "SELECT i.item_id FROM dimmy.items AS i JOIN item_versions USING (message_id)",
        "SELECT item_id FROM `project.dimmy_prod.items`",
        "SELECT item_id FROM `project`.dimmy_prod.`items`",
        "WITH foo AS (SELECT item_id FROM items) SELECT * FROM foo",
        "SELECT * FROM UNNEST([1, 2]) AS number",
        "SELECT item_id FROM items UNION ALL SELECT event_id FROM events",
    ],
)
def test_a_query_may_name_tables_as_in_bigquery(sql: str) -> None:
    translated = translate(sql)

    assert "project" not in translated
    assert "dimmy" not in translated


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("", "one query at a time"),
        ("-- nothing", "one query at a time"),
        ("DELETE FROM items", "one query at a time"),
        ("CREATE TABLE x (a INT64)", "one query at a time"),
        ("SELECT 1; SELECT 2", "one query at a time"),
        ("SELEC 1", "The SQL cannot be read: .*line 1, column 7 near '1'"),
        ("SELECT 'abc", "The SQL cannot be read"),
        (
            "SELECT * FROM foo",
            "no table foo; there are items, events, item_versions, event_attempts",
        ),
        ("SELECT * FROM items, p.d.bar", "no table bar; there are"),
        ("SELECT nonsense FROM items", 'column "nonsense" not found'),
    ],
)
def test_what_is_no_query_is_refused_in_one_line(
    warehouse: Warehouse, sql: str, problem: str
) -> None:
    with pytest.raises(QueryError, match=problem) as raised:
        warehouse.query(sql)

    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)
    assert warehouse.query("SELECT 1").rows == [(1,)]
