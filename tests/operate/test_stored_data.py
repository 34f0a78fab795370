"""`make discard`, `replay`, `republish` and `verify` of an installation in Google Cloud.

One of them: .venv/bin/pytest tests/operate/test_stored_data.py -k verify
"""

import base64
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from operate.commands import republish
from operate.installation import Installation
from pipeline.store.items import read_item
from pipeline.store.settings import StorageSettings
from pipeline.store.store import Store
from sandbox import catalogue
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from sandbox.dimmy_api import DimmyApi
from support.operator import API_KEY, DEPLOYED, HEALTHY, Endpoint, Operator

BUCKET = DEPLOYED["bucket"]
RECEIPT = (
    '{"event_id":"msg_1","kind":"items.scanned","received_at":"2026-11-01T08:00:00.000000Z",'
    '"message_id":"7","attempts":3,"outcome":"partial","redriven":false,'
    '"items":{"a":"stored","b":"404: Item not found","c":"timeout"},'
    '"payload":{"item_ids":["a","b","c"],"n":1.10}}'
)
ACCOUNT = ("config get-value account", "ann@warehouse.example", 0)


@pytest.fixture
def bucket(background: Background, operator: Operator) -> Iterator[CloudStorage]:
    server = CloudStorage()
    background.run(server.start())
    server.put(f"{BUCKET}/events/msg_1.json", RECEIPT.encode())
    operator.set_answers(("storage cat", RECEIPT, 0), ACCOUNT, *HEALTHY)
    yield server
    background.run(server.stop())


def test_discard_records_who_has_given_up_which_items(
    operator: Operator, bucket: CloudStorage
) -> None:
    settings = {"EVENT": "msg_1", "STORAGE_EMULATOR_HOST": bucket.url}

    assert operator.run("discard", **settings) == 2, "it must ask"
    assert operator.run("discard", YES="1", **settings) == 1, operator.printed

    line = bucket.objects[f"{BUCKET}/events/msg_1.json"].content
    receipt = json.loads(line)
    assert receipt["items"] == {"a": "stored", "b": "discarded", "c": "timeout"}
    assert receipt["discarded"]["b"].startswith("ann@warehouse.example, 20")
    assert line.endswith(b'"payload":{"item_ids":["a","b","c"],"n":1.10}}')
    assert "1 item of the event still to be stored." in operator.printed

    assert operator.run("discard", YES="1", ITEM="c", **settings) == 0, operator.printed
    assert "make redrive ENV=dev PROJECT=warehouse-1 removes it" in operator.printed
    outcome = json.loads(bucket.objects[f"{BUCKET}/events/msg_1.json"].content)["outcome"]
    assert outcome == "done"


def test_discard_without_permission_to_write_changes_nothing(
    operator: Operator, bucket: CloudStorage
) -> None:
    bucket.fail_writes(1.0, seed=1)

    status = operator.run("discard", YES="1", EVENT="msg_1", STORAGE_EMULATOR_HOST=bucket.url)

    assert status == 1
    assert "events/msg_1.json: " in operator.printed
    assert "403" in operator.printed
    assert bucket.objects[f"{BUCKET}/events/msg_1.json"].content == RECEIPT.encode()


@pytest.mark.parametrize("chosen", [{"EVENT": "msg_1"}, {"OUTCOME": "partial"}], ids=str)
def test_replay_publishes_the_stored_body(
    operator: Operator,
    bucket: CloudStorage,
    endpoint: Callable[..., Endpoint],
    chosen: dict[str, str],
) -> None:
    pubsub = endpoint((200, {"messageIds": ["8"]}))

    status = operator.run(
        "replay",
        YES="1",
        STORAGE_EMULATOR_HOST=bucket.url,
        CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB=pubsub.url,
        **chosen,
    )

    assert status == 0, operator.printed
    assert "1 event to resolve again." in operator.printed
    assert pubsub.requests == [
        ("/v1/projects/warehouse-1/topics/dimmy-dev-events:publish", "Bearer an-access-token")
    ]


def test_a_replay_is_later_than_the_stored_delivery_whatever_the_clock_says(
    operator: Operator, bucket: CloudStorage, endpoint: Callable[..., Endpoint]
) -> None:
    receipt = RECEIPT.replace("2026-11-01T08:00:00.000000Z", "2199-11-01T08:00:00.000001Z")
    bucket.put(f"{BUCKET}/events/msg_1.json", receipt.encode())
    pubsub = endpoint((200, {"messageIds": ["8"]}))

    status = operator.run(
        "replay",
        YES="1",
        EVENT="msg_1",
        STORAGE_EMULATOR_HOST=bucket.url,
        CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB=pubsub.url,
    )

    assert status == 0, operator.printed
    (message,) = json.loads(pubsub.bodies[0])["messages"]
    assert message["attributes"]["received-at"] == "2199-11-01T08:00:00.000002Z"


def test_replay_that_pubsub_refuses_is_an_error(
    operator: Operator, bucket: CloudStorage, endpoint: Callable[..., Endpoint]
) -> None:
    pubsub = endpoint((403, {"error": {"message": "needs pubsub.topics.publish"}}))

    status = operator.run(
        "replay",
        YES="1",
        EVENT="msg_1",
        STORAGE_EMULATOR_HOST=bucket.url,
        CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB=pubsub.url,
    )

    assert status == 1
    assert "Pub/Sub answers 403" in operator.printed


TOPIC = "projects/warehouse-1/topics/dimmy-dev-item-versions"


def published_to(pubsub: Endpoint) -> list[dict[str, Any]]:
    """The data of all published messages."""
    messages = [message for body in pubsub.bodies for message in json.loads(body)["messages"]]
    return [json.loads(base64.b64decode(message["data"])) for message in messages]


def test_republish_publishes_every_stored_item_in_few_requests(
    operator: Operator, bucket: CloudStorage, endpoint: Callable[..., Endpoint]
) -> None:
    items = [catalogue.make_item(random.Random(number)) for number in range(40)]
    items += [catalogue.padded(items[number], 900_000) for number in range(10)]
    for item in items:
        bucket.put(f"{BUCKET}/items/{item['_id']}.json", json.dumps(item).encode())
    bucket.put(f"{BUCKET}/items/notes.json", b"by hand")
    pubsub = endpoint((200, {"messageIds": ["8"]}))
    operator.set_answers(items_topic=TOPIC)
    settings = {
        "STORAGE_EMULATOR_HOST": bucket.url,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": pubsub.url,
    }

    assert operator.run("republish", **settings) == 2, "it must ask"
    assert pubsub.requests == []
    assert operator.run("republish", YES="1", **settings) == 1

    assert f"41 stored items to publish to {TOPIC}." in operator.printed
    assert "items/notes.json is not an item" in operator.printed
    assert set(pubsub.requests) == {(f"/v1/{TOPIC}:publish", "Bearer an-access-token")}
    assert len(pubsub.requests) < 5
    assert max(map(len, pubsub.bodies)) < 10_000_000
    published = {each["item_id"]: each for each in published_to(pubsub)}
    assert published.keys() == {item["_id"] for item in items}
    for item in items[10:]:
        assert json.loads(published[item["_id"]]["item"]) == item


def test_an_item_that_is_replaced_while_it_is_republished_is_published_last(
    tmp_path: Path,
) -> None:
    settings = StorageSettings(f"file://{tmp_path}")
    store = Store(settings)
    item, newer = (read_item(b'{"_id":"a","n":%d}' % number) for number in (1, 22))
    store.put_item(item)
    published: list[Any] = []

    def publish(batch: Sequence[tuple[object, bytes]]) -> None:
        if not published:  # `resolve` stores and publishes an answer of the API meanwhile
            store.put_item(newer, datetime.now(UTC) + timedelta(minutes=1))
            published.append(json.loads(newer.line))
        published.extend(json.loads(json.loads(data)["item"]) for _, data in batch)

    installation = SimpleNamespace(
        asks_before_changes=False,
        items_topic=lambda: TOPIC,
        storage=lambda: settings,
        publish_items=publish,
    )

    assert republish.run(cast(Installation, installation), {}, Console(file=StringIO())) == 0

    assert [each["n"] for each in published] == [22, 1, 22]


def test_republish_since_leaves_out_what_was_stored_before(
    operator: Operator, bucket: CloudStorage, endpoint: Callable[..., Endpoint]
) -> None:
    bucket.put(f"{BUCKET}/items/a.json", b'{"_id":"a"}')
    pubsub = endpoint((200, {"messageIds": ["8"]}))
    operator.set_answers(items_topic=TOPIC)

    def republish_since(since: str) -> int:
        return operator.run(
            "republish",
            YES="1",
            SINCE=since,
            STORAGE_EMULATOR_HOST=bucket.url,
            CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB=pubsub.url,
        )

    assert republish_since("2999-01-01") == 0
    assert (pubsub.requests, "0 stored items" in operator.printed) == ([], True)
    assert republish_since("2026-01-01") == 0
    assert [each["item_id"] for each in published_to(pubsub)] == ["a"]


def test_backfill_of_photos_publishes_the_items_that_have_photos(
    operator: Operator, bucket: CloudStorage, endpoint: Callable[..., Endpoint]
) -> None:
    plain = {"_id": "plain"}
    photographed = catalogue.make_item(random.Random(1), photos=2)
    for item in (plain, photographed):
        bucket.put(f"{BUCKET}/items/{item['_id']}.json", json.dumps(item).encode())
    pubsub = endpoint((200, {"messageIds": ["8"]}))
    archive = "projects/warehouse-1/subscriptions/dimmy-dev-archive"
    operator.set_answers(items_topic=TOPIC, archive_subscription=archive)

    status = operator.run(
        "backfill",
        YES="1",
        PHOTOS="1",
        STORAGE_EMULATOR_HOST=bucket.url,
        CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB=pubsub.url,
    )

    assert status == 0, operator.printed
    assert [each["item_id"] for each in published_to(pubsub)] == [photographed["_id"]]


def test_republish_without_a_topic_says_how_to_get_one(operator: Operator) -> None:
    operator.set_answers(items_topic=None)

    assert operator.run("republish", YES="1") == 2
    assert "set items_topic = true in infra/envs/dev.tfvars" in operator.printed


def test_backfill_of_photos_needs_an_installation_that_keeps_them(operator: Operator) -> None:
    operator.set_answers(items_topic=TOPIC)

    assert operator.run("backfill", YES="1", PHOTOS="1") == 2

    assert 'PHOTOS=1 needs an installation with photos = "archive".' in operator.printed


def test_verify_counts_each_item_on_the_day_of_its_creation(
    operator: Operator, bucket: CloudStorage, background: Background
) -> None:
    api = DimmyApi(API_KEY)
    background.run(api.start())
    for created_at in (
        "2025-12-31T23:59:59.900",
        "2026-01-01T00:00:00",
        "2026-01-01T23:59:59.500",
        "2026-01-02T00:00:00",
    ):
        item_id = api.put(catalogue.make_item(random.Random()) | {"created_at": created_at})
        bucket.put(f"{BUCKET}/items/{item_id}.json", api.body_of(item_id))
    settings = {"SINCE": "2026-01-01", "UNTIL": "2026-01-03", "DIMMY_API_URL": api.url}

    assert operator.run("verify", STORAGE_EMULATOR_HOST=bucket.url, **settings) == 0

    rows = re.findall(r"(2026-01-\d\d) +(\d+) +(\d+)", operator.printed)
    assert rows == [("2026-01-01", "2", "2"), ("2026-01-02", "1", "1")]
    background.run(api.stop())


def test_verify_compares_the_bucket_with_the_api(
    operator: Operator, bucket: CloudStorage, background: Background
) -> None:
    api = DimmyApi(API_KEY)
    background.run(api.start())
    day = {"created_at": "2026-01-01T08:00:00"}
    stored_id, missing_id = (api.put(catalogue.make_item(random.Random()) | day) for _ in range(2))
    bucket.put(f"{BUCKET}/items/{stored_id}.json", api.body_of(stored_id))
    settings = {"SINCE": "2026-01-01", "UNTIL": "2026-01-02", "DIMMY_API_URL": api.url}

    assert operator.run("verify", STORAGE_EMULATOR_HOST=bucket.url, **settings) == 1
    assert f"missing: {missing_id}" in operator.printed

    bucket.put(f"{BUCKET}/items/{missing_id}.json", api.body_of(missing_id))
    assert operator.run("verify", STORAGE_EMULATOR_HOST=bucket.url, **settings) == 0
    background.run(api.stop())
