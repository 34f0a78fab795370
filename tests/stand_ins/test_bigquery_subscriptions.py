"""Messages become rows, as BigQuery subscriptions write them, over both Pub/Subs.

Google's emulator has no such subscriptions, so a feeder pulls an ordinary one and writes to the
same tables. One of them: .venv/bin/pytest tests/stand_ins/test_bigquery_subscriptions.py -k own
"""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from google.api_core import exceptions
from google.pubsub_v1 import types

from sandbox.background import Background
from sandbox.bigquery_rows import NotStorableError, as_row, table_of
from sandbox.bigquery_subscriptions import TableFeeder
from sandbox.pubsub import PubSub
from sandbox.pubsub_admin import PubSubAdmin
from sandbox.stack import PubSubKind
from sandbox.warehouse import EVENT_ATTEMPTS, ITEM_VERSIONS, WAREHOUSE_FILE, Warehouse
from support.waiting import wait_for

Subscribe = Callable[[], str]

NOT_STORABLE = [
    b"not JSON",
    b"\xff\xfe",
    b'{"a": 1,}',
    b'{"a": NaN}',
    b'{"a": 1e400}',
    b'{"a": 123456789012345678901}',
    b'{"a": 0.12345678901234567890123}',
    b'{"a": "half of a pair: \\ud83d"}',
    b"[" * 100_000,
]


@pytest.fixture
def subscribe(
    pubsub: PubSubAdmin, pubsub_kind: PubSubKind, warehouse: Warehouse
) -> Iterator[Subscribe]:
    """Creates a topic whose messages become rows of item_versions, with dead letters."""
    with ExitStack() as cleanup:

        def create() -> str:
            name = f"t-{uuid.uuid4().hex}"
            pubsub.create_topic(name)
            pubsub.create_topic(f"{name}-dead")
            pubsub.create_subscription(f"{name}-dead", f"{name}-dead")
            is_own = pubsub_kind == "own"
            pubsub.create_subscription(
                name,
                name,
                bigquery_table=f"sandbox.dimmy.{ITEM_VERSIONS}" if is_own else "",
                dead_letter_topic=f"{name}-dead",
            )
            if not is_own:
                feeder = TableFeeder(pubsub.host, name, ITEM_VERSIONS, warehouse)
                feeder.start()
                cleanup.callback(feeder.stop)
            return name

        yield create


def rows_of(warehouse: Warehouse, subscription: str) -> list[dict[str, Any]]:
    return warehouse.query(
        "SELECT * FROM item_versions"
        f" WHERE subscription_name = 'projects/sandbox/subscriptions/{subscription}'"
    ).dicts()


def test_a_message_becomes_a_row_with_the_documented_columns(
    pubsub: PubSubAdmin, warehouse: Warehouse, subscribe: Subscribe
) -> None:
    name = subscribe()

    message_id = pubsub.publish(name, b'{"size": [1.5, "gr\xc3\xb6\xc3\x9fer"]}', kind="größer")

    (row,) = wait_for(lambda: rows_of(warehouse, name), "the row")
    assert list(row) == [
        "subscription_name",
        "message_id",
        "publish_time",
        "data",
        "attributes",
    ]
    assert row["message_id"] == message_id
    assert json.loads(row["data"]) == {"size": [1.5, "größer"]}
    assert json.loads(row["attributes"]) == {"kind": "größer"}
    assert abs(row["publish_time"] - datetime.now(UTC)) < timedelta(minutes=5)


def test_every_message_becomes_a_row(
    pubsub: PubSubAdmin, warehouse: Warehouse, subscribe: Subscribe
) -> None:
    name = subscribe()

    published = {pubsub.publish(name, b'{"number": %d}' % number) for number in range(300)}

    wait_for(
        lambda: {row["message_id"] for row in rows_of(warehouse, name)} == published, "all rows"
    )


@pytest.mark.parametrize("data", NOT_STORABLE, ids=range(len(NOT_STORABLE)))
def test_a_message_that_a_json_column_refuses_becomes_a_dead_letter_and_others_are_written(
    pubsub: PubSubAdmin, warehouse: Warehouse, subscribe: Subscribe, data: bytes
) -> None:
    name = subscribe()

    refused = pubsub.publish(name, data, number="1")
    written = pubsub.publish(name, b"{}", number="2")

    (dead_letter,) = wait_for(lambda: pubsub.pull(f"{name}-dead"), "the dead letter")
    assert dead_letter.data == data
    assert dead_letter.attributes["number"] == "1"
    assert dead_letter.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"
    wait_for(lambda: rows_of(warehouse, name), "the other message")
    assert {row["message_id"] for row in rows_of(warehouse, name)} == {written} != {refused}


@pytest.mark.parametrize("data", NOT_STORABLE, ids=range(len(NOT_STORABLE)))
def test_such_a_message_has_no_row(data: bytes) -> None:
    with pytest.raises(NotStorableError, match="not JSON that BigQuery accepts"):
        as_row("s", "1", datetime.now(UTC), data, {})


@pytest.mark.parametrize(
    "data", [b"null", b'"text"', b" {} ", b'{"a": 0.1}', b'{"a": 18446744073709551615, "b": 1.50}']
)
def test_any_json_value_with_exact_numbers_has_a_row(data: bytes) -> None:
    assert as_row("s", "1", datetime.now(UTC), data, {}).data == data.decode()


class Server:
    """The sandbox's own Pub/Sub with a topic `events` and its own tables."""

    def __init__(self, background: Background, folder: Path, repeat_share: float = 0.0) -> None:
        self.warehouse = Warehouse(folder / WAREHOUSE_FILE)
        self.warehouse.create()
        self._background = background
        self._pubsub = PubSub(repeat_share=repeat_share, tables=self.warehouse)
        self.admin = PubSubAdmin(f"127.0.0.1:{background.run(self._pubsub.start())}")
        self.admin.create_topic("events")

    def close(self) -> None:
        self.admin.close()
        self._background.run(self._pubsub.stop())

    def message_ids(self) -> list[str]:
        found = self.warehouse.query(f"SELECT message_id FROM {EVENT_ATTEMPTS}")
        return [row[0] for row in found.rows]


@pytest.fixture
def server(background: Background, tmp_path: Path) -> Iterator[Server]:
    with closing(Server(background, tmp_path)) as server:
        yield server


TABLE = f"sandbox.dimmy.{EVENT_ATTEMPTS}"


@pytest.mark.parametrize(
    "table", ["sandbox:dimmy.event_attempts", "dimmy.event_attempts", "event_attempts", "a.b.c.d"]
)
def test_a_table_in_another_form_is_refused(server: Server, table: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=r"projectId\.datasetId\.tableId"):
        server.admin.create_subscription("events", "events", bigquery_table=table)


def test_a_missing_table_and_a_view_are_refused(server: Server) -> None:
    for table in ("sandbox.dimmy.missing", "sandbox.dimmy.items"):
        with pytest.raises(exceptions.NotFound):
            server.admin.create_subscription("events", "events", bigquery_table=table)


def test_a_subscription_delivers_to_one_place_only(server: Server) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        server.admin.create_subscription(
            "events", "events", bigquery_table=TABLE, push_endpoint="http://127.0.0.1:1/"
        )


@pytest.mark.parametrize(
    "options", [{"write_metadata": False}, {"use_topic_schema": True}, {"use_table_schema": True}]
)
def test_what_the_sandbox_does_not_support_is_refused(options: dict[str, bool]) -> None:
    config = types.BigQueryConfig({"table": TABLE, "write_metadata": True} | options)

    with pytest.raises(ValueError, match="sandbox"):
        table_of(config)


def test_a_table_that_disappears_shows_in_the_state_and_loses_no_message(server: Server) -> None:
    server.admin.create_subscription("events", "events", bigquery_table=TABLE)
    assert server.admin.bigquery_state("events") == "ACTIVE"
    with duckdb.connect(str(server.warehouse.file)) as database:
        database.execute(f"DROP TABLE {EVENT_ATTEMPTS} CASCADE")

    message_id = server.admin.publish("events", b"{}")

    wait_for(lambda: server.admin.bigquery_state("events") == "NOT_FOUND", "the state")
    server.warehouse.create()
    wait_for(lambda: server.message_ids() == [message_id], "the row")
    assert server.admin.bigquery_state("events") == "ACTIVE"


def test_some_deliveries_are_made_twice(background: Background, tmp_path: Path) -> None:
    with closing(Server(background, tmp_path, repeat_share=0.5)) as server:
        server.admin.create_subscription("events", "events", bigquery_table=TABLE)

        published = {server.admin.publish("events", b"{}") for _ in range(40)}

        wait_for(lambda: set(server.message_ids()) == published, "all messages")
        wait_for(lambda: len(server.message_ids()) > 40, "a repetition")
        assert set(server.message_ids()) == published
