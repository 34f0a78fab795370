"""BigQuery's views and example queries, translated to DuckDB's SQL and run on real messages.

One of them: .venv/bin/pytest tests/infra/test_bigquery.py -k duplicates
"""

import dataclasses
import json
import random
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.items_topic.item_message import ItemMessage, describe
from pipeline.json_text import compact
from pipeline.store.items import read_item
from sandbox import catalogue
from support.bigquery import DATASET, EXAMPLES, NOW, Database, Message, Row, in_utc


def _time(text: str | None) -> datetime | None:
    return in_utc(datetime.fromisoformat(text)) if text else None


def message_of(
    item: catalogue.Item,
    message_id: str = "1",
    published: datetime = NOW,
    event_id: str | None = "msg_1",
) -> Message:
    """The message of an item, as the functions publish it; reconcile does without an event."""
    read = read_item(compact(json.dumps(item, ensure_ascii=False).encode()))
    return Message(describe(read, event_id).data().decode(), message_id, published)


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_database() -> Iterator[Database]:
    """For tests with many examples, which empty the tables themselves."""
    with Database() as opened:
        yield opened


# The view items


def test_the_items_view_has_a_column_of_its_type_for_each_field_of_a_message(
    database: Database,
) -> None:
    types = {float: "DOUBLE", int: "BIGINT", str: "VARCHAR"}
    expected = {}
    for field, hint in get_type_hints(ItemMessage).items():
        kind = next(kind for kind in types if kind is hint or kind in getattr(hint, "__args__", ()))
        expected[field] = "TIMESTAMP" if field.endswith("_at") else types[kind]

    columns = database.types("items")

    assert columns.pop("published_at") == "TIMESTAMP"
    assert columns == expected
    assert list(columns) == [field.name for field in dataclasses.fields(ItemMessage)]


@pytest.mark.parametrize("variety", range(3))
def test_the_items_view_has_the_values_of_each_item(database: Database, variety: int) -> None:
    items = [catalogue.make_item(random.Random(variety * 100 + n)) for n in range(40)]
    messages = [message_of(item) for item in items]
    database.write("item_versions", messages)

    rows = {row["item_id"]: row for row in database.view("items")}

    assert rows.keys() == {item["_id"] for item in items}
    for message in messages:
        fields = json.loads(message.data)
        row = rows[fields["item_id"]]
        assert row.pop("published_at") == in_utc(message.publish_time)
        assert row == {
            name: _time(value) if name.endswith("_at") else value for name, value in fields.items()
        }


def test_the_items_view_accepts_the_vendors_example_and_unexpected_types(
    database: Database,
) -> None:
    unexpected: catalogue.Item = {
        "_id": "67c861de20bb29fb40d2cbbe",
        "flow_id": 'a "quoted", \\ flow\twith\neverything',
        "dimensioning": [{"dimensions": {"width": "about 12", "unit": None}}],
        "photographing": None,
        "weighing": [],
        "something_new": [[1, 2], {"deep": {"er": True}}],
    }
    other = '{"another": "message"}'
    database.write(
        "item_versions",
        [message_of(catalogue.VENDOR_EXAMPLE), message_of(unexpected), Message(other)],
    )

    rows = {row["item_id"]: row for row in database.view("items")}

    assert len(rows) == 2
    vendor = rows["67c861de20bb29fb40d2cbbd"]
    assert (vendor["barcode"], vendor["photo_count"]) == ("A0155C35", 1)
    row = rows["67c861de20bb29fb40d2cbbe"]
    assert row["flow_id"] == unexpected["flow_id"]
    assert (row["width_mm"], row["updated_at"], row["photo_count"]) == (None, None, 0)
    assert json.loads(row["item"]) == unexpected


def _newest(messages: Sequence[Message]) -> dict[str, str]:
    """The rule for subscribers: the newest `updated_at`, and the one published last among equals.

    Two times within a millisecond are equal.
    """
    newest: dict[str, tuple[tuple[str, datetime, int], str]] = {}
    for message in messages:
        fields = json.loads(message.data)
        milliseconds = (fields["updated_at"] or "")[: len("2026-11-01T08:00:00.000")]
        key = (milliseconds, message.publish_time, int(message.message_id))
        item_id = fields["item_id"]
        if item_id not in newest or key > newest[item_id][0]:
            newest[item_id] = (key, fields["item"])
    return {item_id: item for item_id, (_, item) in newest.items()}


@st.composite
def _published(draw: st.DrawFn) -> list[Message]:
    """Messages of three items: any versions and times, some of them equal or none."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(0, 2),
                st.none() | st.sampled_from([0, 1, 999, 1_000, 1_001, 2_000_000]),
                st.integers(0, 3),
            ),
            min_size=1,
            max_size=12,
        )
    )
    messages = []
    for number, (item, microseconds, seconds) in enumerate(drawn, 100):
        value: catalogue.Item = {"_id": f"item-{item}", "version": number}
        if microseconds is not None:
            updated = in_utc(NOW + timedelta(microseconds=microseconds))
            value["updated_at"] = updated.isoformat(timespec="microseconds")
        published = NOW + timedelta(seconds=seconds)
        messages.append(message_of(value, str(number), published))
    return messages


@settings(max_examples=150)
@given(published=_published(), data=st.data())
def test_in_any_order_and_with_any_duplicates_the_view_shows_the_newest_version_once(
    shared_database: Database, published: list[Message], data: st.DataObject
) -> None:
    repeated = data.draw(st.lists(st.sampled_from(published), max_size=12), label="repeated")
    written = data.draw(st.permutations(published + repeated), label="written")
    shared_database.empty("item_versions")
    shared_database.write("item_versions", written)

    rows = shared_database.view("items")

    assert len(rows) == len({row["item_id"] for row in rows})
    assert {row["item_id"]: row["item"] for row in rows} == _newest(published)


def test_an_older_version_that_is_published_later_does_not_become_the_newest(
    database: Database,
) -> None:
    older: catalogue.Item = {"_id": "a", "updated_at": "2026-11-01T08:00:00.122999", "n": 1}
    newer: catalogue.Item = {"_id": "a", "updated_at": "2026-11-01T08:00:00.123456", "n": 2}
    from_the_database = {"_id": "a", "updated_at": "2026-11-01T08:00:00.123", "n": 3}

    database.write("item_versions", [message_of(newer, "1"), message_of(older, "2")])
    assert [json.loads(row["item"])["n"] for row in database.view("items")] == [2]

    database.write("item_versions", [message_of(from_the_database, "3")])
    assert [json.loads(row["item"])["n"] for row in database.view("items")] == [3]


# The view events


def attempt_line(event_id: str, minute: int, **fields: Any) -> Message:
    """A log entry of resolve, as a sink publishes it."""
    time = f"2026-11-01T08:{minute:02}:00.123456789Z"
    entry = {
        "insertId": "67c861de",
        "logName": "projects/warehouse-1/logs/run.googleapis.com%2Fstdout",
        "resource": {
            "type": "cloud_run_revision",
            "labels": {"service_name": "dimmy-prod-resolve"},
        },
        "severity": "INFO",
        "timestamp": time,
        "jsonPayload": {
            "event_id": event_id,
            "message": f"event {fields.get('outcome')}",
            **fields,
        },
    }
    return Message(json.dumps(entry), str(minute), NOW + timedelta(minutes=minute))


def _attempts() -> list[Message]:
    """An event that succeeds with the third attempt, and one that succeeds at once."""
    known = {"kind": "items.scanned", "received_at": "2026-11-01T07:59:00.123456Z", "items": 2}
    refused = {"reason": "b: 404: Item not found", "reason_class": "not_found", "failed": 1}
    unavailable = {"outcome": "unavailable", "reason": "storage", "reason_class": "storage"}
    return [
        attempt_line(
            "msg_1", 0, attempt=1, outcome="partial", milliseconds=20.5, **known, **refused
        ),
        attempt_line("msg_1", 1, attempt=2, milliseconds=9, **unavailable),
        attempt_line("msg_1", 2, attempt=3, outcome="done", milliseconds=12, failed=0, **known),
        attempt_line("msg_2", 3, attempt=1, outcome="done", milliseconds=11, failed=0, **known),
    ]


def test_the_events_view_has_the_state_of_each_event_after_its_latest_attempt(
    database: Database,
) -> None:
    lines = _attempts()
    database.write("event_attempts", [*reversed(lines), *lines])

    rows = {row["event_id"]: row for row in database.view("events")}

    assert rows.keys() == {"msg_1", "msg_2"}
    assert rows["msg_1"] == {
        "event_id": "msg_1",
        "kind": "items.scanned",
        "outcome": "done",
        "attempts": 3,
        "items": 2,
        "failed": 0,
        "reason_class": None,
        "reason": None,
        "received_at": datetime.fromisoformat("2026-11-01T07:59:00.123456"),
        "attempted_at": datetime.fromisoformat("2026-11-01T08:02:00.123456"),
        "milliseconds": 12.0,
    }
    assert (rows["msg_2"]["attempts"], rows["msg_2"]["outcome"]) == (1, "done")


def test_an_event_keeps_what_an_attempt_without_storage_could_not_know(database: Database) -> None:
    database.write("event_attempts", _attempts()[:2])

    (row,) = database.view("events")

    assert (row["outcome"], row["reason_class"], row["attempts"]) == ("unavailable", "storage", 2)
    assert (row["kind"], row["items"]) == ("items.scanned", 2)


# The examples


def make_version(item_id: str, minute: int, weight: float, **fields: Any) -> catalogue.Item:
    return {
        "_id": item_id,
        "flow_id": "inbound",
        "created_at": "2026-11-01T07:30:00.000",
        "updated_at": f"2026-11-01T08:{minute:02}:00.000",
        "barcode_scanning": [{"code": "A0155C35"}],
        "weighing": [{"weight": weight, "unit": "kg"}],
        **fields,
    }


def test_every_example_is_tested() -> None:
    tested = set(re.findall(r'run_example\("(\w+)"', Path(__file__).read_text()))

    assert {path.stem for path in EXAMPLES.glob("*.sql")} == tested


def test_the_example_counts_the_scans_of_each_day_by_flow(database: Database) -> None:
    items = [
        make_version("a", 0, 1),
        make_version("b", 0, 1),
        make_version("c", 0, 1, flow_id="outbound"),
        make_version("d", 0, 1, created_at="2026-10-31T23:59:59"),
    ]
    database.write("item_versions", [message_of(item) for item in [*items, items[0]]])

    rows = [tuple(row.values()) for row in database.run_example("scans_by_day_and_flow")]

    october, november = date(2026, 10, 31), date(2026, 11, 1)
    assert rows == [(october, "inbound", 1), (november, "inbound", 2), (november, "outbound", 1)]


def test_the_example_shows_the_dimensions_of_a_barcode_over_time(database: Database) -> None:
    later = make_version("b", 0, 3, created_at="2026-11-03T08:00:00")
    other = make_version("c", 0, 4, barcode_scanning=[{"code": "another"}])
    items = [later, make_version("a", 0, 1), make_version("a", 1, 2), other]
    database.write("item_versions", [message_of(item) for item in items])

    rows = database.run_example("dimensions_of_a_barcode", barcode="A0155C35")

    assert [(row["item_id"], row["weight_g"]) for row in rows] == [("a", 2000), ("b", 3000)]


def test_the_example_shows_what_changed_in_an_item_and_when(database: Database) -> None:
    versions = [
        make_version("a", 0, 1),
        make_version("a", 5, 2),
        make_version("a", 9, 2, flow_id="outbound", barcode_scanning=[]),
        make_version("a", 10, 2, flow_id="outbound", barcode_scanning=[], questions=[1]),
    ]
    messages = [message_of(version) for version in [*reversed(versions), versions[0]]]
    database.write("item_versions", [*messages, message_of(make_version("b", 0, 1))])

    rows = database.run_example("changes_of_an_item", item_id="a")

    assert [(row["updated_at"].minute, row["changed"]) for row in rows] == [
        (0, "flow_id, barcode, weight_g, photo_count"),
        (5, "weight_g"),
        (9, "flow_id, barcode"),
        (10, "other fields"),
    ]
    assert json.loads(rows[-1]["item"]) == versions[-1]


def test_the_example_shows_the_events_that_needed_more_than_one_attempt(
    database: Database,
) -> None:
    database.write("event_attempts", _attempts())

    rows = database.run_example("events_with_several_attempts")

    assert [(row["event_id"], row["attempts"], row["outcome"]) for row in rows] == [
        ("msg_1", 3, "done")
    ]


@settings(max_examples=40)
@given(first=_published(), second=_published())
def test_a_table_of_the_newest_versions_stays_equal_to_the_view(
    shared_database: Database, first: list[Message], second: list[Message]
) -> None:
    """Created at any time, and updated at any later time, also twice."""
    recent = datetime.now(UTC) - timedelta(hours=1) - NOW
    database = shared_database
    database.empty("item_versions")
    database.run(f"DROP TABLE IF EXISTS {DATASET}.newest_items")
    database.write("item_versions", first)
    database.run_example("newest_items_create")

    later = [
        dataclasses.replace(
            message,
            publish_time=message.publish_time + recent,
            message_id=f"2{message.message_id}",
        )
        for message in second
    ]
    database.write("item_versions", later)
    for _ in range(2):
        database.run_example("newest_items_update")

    def by_item(rows: list[Row]) -> dict[str, Row]:
        return {row["item_id"]: row for row in rows}

    stored = database.view("newest_items")
    assert len(stored) == len(by_item(stored))
    assert by_item(stored) == by_item(database.view("items"))


def test_the_table_of_the_newest_versions_keeps_the_event_of_what_is_published_again(
    database: Database,
) -> None:
    database.run_example("newest_items_create")
    recent = datetime.now(UTC) - timedelta(hours=1)
    item = make_version("a", 0, 1)
    later = recent + timedelta(minutes=5)
    published_again = message_of(item, "2", later, event_id=None)
    database.write("item_versions", [message_of(item, "1", recent), published_again])

    database.run_example("newest_items_update")

    (stored,) = database.view("newest_items")
    assert stored["event_id"] == "msg_1"
    assert [stored] == database.view("items")
