"""`resolve` and `reconcile` publish what they settle: at least once, whatever fails in between.

One of them: .venv/bin/pytest tests/items_topic/test_publishing.py -k crash
"""

import json
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import flask
import pytest
from google.cloud.pubsub_v1.publisher.client import Client
from werkzeug.test import EnvironBuilder

from pipeline.items_topic import publisher as publisher_module
from pipeline.items_topic.item_message import MAX_ITEM_BYTES
from pipeline.items_topic.publisher import ConfirmedPublisher
from pipeline.items_topic.settings import ItemsTopicSettings
from pipeline.items_topic.topic import ItemsTopic, ItemsTopicError
from pipeline.reconcile.reconciler import Reconciler
from pipeline.reconcile.settings import read_reconcile_settings
from pipeline.resolve import fetching
from pipeline.resolve.resolver import Resolver
from pipeline.resolve.settings import read_resolve_settings
from pipeline.store.errors import StorageError
from pipeline.store.items import Item
from pipeline.store.objects import Objects
from pipeline.store.store import CLOCK_UNCERTAINTY
from sandbox import catalogue
from sandbox.background import Background
from sandbox.dimmy_api import DimmyApi
from sandbox.svix_sender import new_message_id
from support.dimmy_api import running_api
from support.items_topic import PublishedItems, values
from support.pubsub import HaltingPubSub
from support.resolving import RunningResolve, envelope, start_resolve
from support.waiting import wait_for

RNG = random.Random()

pytestmark = pytest.mark.xdist_group("items-topic")


@pytest.fixture(scope="module")
def items_topic(background: Background) -> Iterator[PublishedItems]:
    running = PublishedItems(background, HaltingPubSub())
    yield running
    running.stop()


@pytest.fixture(scope="module")
def resolve(
    api: DimmyApi, items_topic: PublishedItems, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningResolve]:
    """As deployed."""
    folder = tmp_path_factory.mktemp("resolve")
    function = start_resolve(api, folder, **items_topic.settings)
    yield RunningResolve(function, api, folder)
    function.stop()


@dataclass
class InProcess:
    """`resolve` and `reconcile` in this process, so that errors can be raised anywhere."""

    api: DimmyApi
    folder: Path
    resolver: Resolver
    reconciler: Reconciler

    def deliver(self, content: object, event_id: str = "", delivery: int = 1) -> tuple[int, Any]:
        event_id = event_id or new_message_id()
        body = json.dumps(envelope(content, event_id, delivery=delivery)).encode()
        request = flask.Request(EnvironBuilder(method="POST", data=body).get_environ())
        _, status = self.resolver.handle(request)
        return status, json.loads((self.folder / f"events/{event_id}.json").read_bytes())

    def reconcile(self) -> tuple[dict[str, Any], int]:
        return self.reconciler.handle(flask.Request(EnvironBuilder().get_environ()))

    def stored(self, item_id: str) -> str:
        return (self.folder / f"items/{item_id}.json").read_text()


@pytest.fixture
def functions(
    background: Background, items_topic: PublishedItems, tmp_path: Path
) -> Iterator[InProcess]:
    with running_api(background) as api:
        settings = {
            "STORAGE_URL": f"file://{tmp_path}",
            "DIMMY_API_URL": api.url,
            "DIMMY_API_KEY": api.key,
            **items_topic.settings,
        }
        yield InProcess(
            api,
            tmp_path,
            Resolver(read_resolve_settings(settings)),
            Reconciler(read_reconcile_settings(settings)),
        )


def test_every_item_of_an_event_is_published_before_the_event_is_acknowledged(
    resolve: RunningResolve, items_topic: PublishedItems
) -> None:
    item_ids = [resolve.put_item() for _ in range(40)]
    event_id = new_message_id()

    status, _ = resolve.deliver({"item_ids": item_ids}, event_id)

    published = items_topic.take_all()
    assert status == 204
    assert sorted(each.attributes["item-id"] for each in published) == sorted(item_ids)
    for value in values(published):
        assert value["item"].encode() == resolve.api.body_of(value["item_id"])
        assert value["event_id"] == event_id


def test_a_full_payload_is_published(resolve: RunningResolve, items_topic: PublishedItems) -> None:
    item = catalogue.make_item(RNG)

    status, _ = resolve.deliver(item)

    (value,) = values(items_topic.take_all())
    assert (status, json.loads(value["item"])) == (204, item)


def test_an_item_that_is_stored_already_is_published_by_a_resend_and_not_by_a_repetition(
    resolve: RunningResolve, items_topic: PublishedItems
) -> None:
    event, event_id = {"item_ids": [resolve.put_item()]}, new_message_id()
    resolve.deliver(event, event_id)

    _, repeated = resolve.deliver(event, event_id, attempt=2)
    assert len(items_topic.take_all()) == 1

    _, resent = resolve.deliver(event, event_id, delivery=2)
    assert len(items_topic.take_all()) == 1
    assert list(repeated["items"].values()) == ["stored"]
    assert list(resent["items"].values()) == ["unchanged"]


def test_a_large_item_is_published_without_its_text(
    resolve: RunningResolve, items_topic: PublishedItems
) -> None:
    item = catalogue.padded(catalogue.make_item(RNG), 2 * MAX_ITEM_BYTES)
    resolve.api.put(item)

    resolve.deliver({"item_ids": [item["_id"]]})

    (value,) = values(items_topic.take_all())
    assert (value["item"], value["object"]) == (None, f"items/{item['_id']}.json")
    assert resolve.read(value["object"]) == resolve.api.body_of(item["_id"])


def test_an_event_is_not_acknowledged_while_its_items_cannot_be_published(
    resolve: RunningResolve, items_topic: PublishedItems
) -> None:
    item_id, event_id = resolve.put_item(), new_message_id()

    with items_topic.cut():
        status, receipt = resolve.deliver({"item_ids": [item_id]}, event_id)

    assert (status, receipt["outcome"]) == (503, "partial")
    assert receipt["items"][item_id].startswith("items topic: ServiceUnavailable: ")
    assert resolve.read(f"items/{item_id}.json") is not None

    def partial_lines() -> list[str]:
        return [line for line in resolve.function.lines if "event partial" in line]

    (line,) = wait_for(partial_lines, "the log line of the attempt")
    assert json.loads(line)["reason_class"] == "items_topic"

    status, receipt = resolve.deliver({"item_ids": [item_id]}, event_id, attempt=2)

    assert (status, receipt["items"]) == (204, {item_id: "unchanged"})
    assert [each.attributes["item-id"] for each in items_topic.take_all()] == [item_id]


def test_an_item_is_published_by_the_next_attempt_after_a_crash_between_write_and_publish(
    api: DimmyApi, items_topic: PublishedItems, tmp_path: Path, background: Background
) -> None:
    function = start_resolve(api, tmp_path, **items_topic.settings)
    resolve = RunningResolve(function, api, tmp_path)
    item_id, event_id = resolve.put_item(), new_message_id()
    server = items_topic.server
    assert isinstance(server, HaltingPubSub)
    server.halt_before = True
    with ThreadPoolExecutor(1) as sender:
        sent = sender.submit(resolve.deliver, {"item_ids": [item_id]}, event_id)
        background.run(server.reached.wait())
        assert resolve.read(f"items/{item_id}.json") is not None
        function.kill()
        assert sent.exception() is not None
    server.halt_before = False
    function.start()
    function.wait_until_up()

    status, receipt = resolve.deliver({"item_ids": [item_id]}, event_id, attempt=2)

    background.run(server.resume_publishing())
    function.stop()
    assert (status, receipt["items"]) == (204, {item_id: "unchanged"})
    assert {each.attributes["item-id"] for each in items_topic.take_all()} == {item_id}


def test_the_stored_content_is_published_where_another_one_has_the_same_time(
    functions: InProcess, items_topic: PublishedItems
) -> None:
    item = catalogue.make_item(RNG)
    functions.api.put(item | {"flow_id": "of the API"})
    functions.deliver({"item_ids": [item["_id"]]})
    items_topic.take_all()

    functions.deliver(item | {"flow_id": "of the event"})

    (value,) = values(items_topic.take_all())
    assert value["item"] == functions.stored(item["_id"])
    assert value["flow_id"] == "of the API"


def test_the_newest_version_is_published_where_an_older_one_arrives_late(
    functions: InProcess, items_topic: PublishedItems
) -> None:
    item = catalogue.make_item(RNG)
    newer = catalogue.updated(item, flow_id="Corrected")
    functions.deliver(newer)
    items_topic.take_all()

    functions.deliver(item)

    (value,) = values(items_topic.take_all())
    assert value["flow_id"] == "Corrected"


def test_reconcile_publishes_what_is_new_or_newer_and_nothing_else(
    functions: InProcess, items_topic: PublishedItems
) -> None:
    items = [catalogue.make_item(RNG) for _ in range(9)]
    for item in items:
        functions.api.put(item)
    functions.deliver({"item_ids": [item["_id"] for item in items[:6]]})
    changed = [catalogue.updated(item, flow_id="Edited") for item in items[:3]]
    for item in changed:
        functions.api.put(item)
    items_topic.take_all()

    counts, status = functions.reconcile()

    published = {value["item_id"]: value for value in values(items_topic.take_all())}
    assert (status, counts["stored"], counts["updated"], counts["unchanged"]) == (200, 3, 3, 3)
    assert published.keys() == {item["_id"] for item in (*changed, *items[6:])}
    for item_id, value in published.items():
        assert value["item"] == functions.stored(item_id)
        assert value["event_id"] is None


def test_reconcile_publishes_before_it_writes(
    functions: InProcess, items_topic: PublishedItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends between the two would otherwise leave an item that is never published."""
    item_id = functions.api.put(catalogue.make_item(RNG))

    def refuse(*_: Any, **__: Any) -> None:
        raise StorageError("read-only")

    with monkeypatch.context() as sabotage:
        sabotage.setattr(Objects, "create", refuse)
        _, status = functions.reconcile()

    assert status == 503
    assert [each.attributes["item-id"] for each in items_topic.take_all()] == [item_id]


def test_reconcile_writes_nothing_that_cannot_be_published(
    functions: InProcess, items_topic: PublishedItems
) -> None:
    item_id = functions.api.put(catalogue.make_item(RNG))

    with items_topic.cut():
        counts, status = functions.reconcile()

    assert (status, counts["failed"], counts["stored"]) == (503, 1, 0)
    assert not (functions.folder / "items").exists()

    counts, status = functions.reconcile()

    assert (status, counts["stored"]) == (200, 1)
    assert [each.attributes["item-id"] for each in items_topic.take_all()] == [item_id]


def test_reconcile_publishes_the_content_of_a_writer_that_was_faster(
    functions: InProcess, items_topic: PublishedItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two contents with the same time, subscribers keep the one that was published last."""
    item = catalogue.make_item(RNG)
    functions.api.put(item)
    stored = catalogue.updated(item, flow_id="of a faster writer")
    create = Objects.create

    def lose_the_race(objects: Objects, name: str, content: Any) -> Any:
        create(objects, name, json.dumps(stored).encode())
        return create(objects, name, content)

    with monkeypatch.context() as sabotage:
        sabotage.setattr(Objects, "create", lose_the_race)
        counts, status = functions.reconcile()

    first, last = values(items_topic.take_all())
    assert (status, counts["unchanged"]) == (200, 1)
    assert (first["flow_id"], last["flow_id"]) == (item["flow_id"], "of a faster writer")


def test_a_publish_that_is_never_answered_fails_and_the_next_one_uses_another_client(
    items_topic: PublishedItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the client's own thread ends without an answer."""
    settings = ItemsTopicSettings(
        items_topic.settings["ITEMS_TOPIC"], items_topic.settings["PUBSUB_EMULATOR_HOST"]
    )
    publisher = ConfirmedPublisher(settings)
    with monkeypatch.context() as sabotage:
        sabotage.setattr(publisher_module, "CONFIRMATION_SECONDS", 0.01)
        sabotage.setattr(Client, "_start_commit_thread", lambda _: None)
        with pytest.raises(ItemsTopicError, match="does not confirm"):
            publisher.publish(b"{}", {})

    publisher.publish(b"{}", {"item-id": "second"})

    assert [each.attributes for each in items_topic.take_all()] == [{"item-id": "second"}]


def test_a_topic_that_is_missing_is_the_reason_in_the_receipt(
    api: DimmyApi, items_topic: PublishedItems, tmp_path: Path
) -> None:
    settings = items_topic.settings | {"ITEMS_TOPIC": "projects/sandbox/topics/missing"}
    function = start_resolve(api, tmp_path, **settings)
    resolve = RunningResolve(function, api, tmp_path)
    item_id = resolve.put_item()

    status, receipt = resolve.deliver({"item_ids": [item_id]})

    function.stop()
    assert status == 503
    assert receipt["items"][item_id].startswith("items topic: NotFound: ")


def test_a_later_answer_with_the_same_time_is_published_last(
    functions: InProcess, items_topic: PublishedItems
) -> None:
    item = catalogue.make_item(RNG)
    functions.deliver(item | {"flow_id": "of the event"})
    functions.api.put(item | {"flow_id": "of the API"})
    # The stored object is older than the request to the API, beyond what clocks may differ.
    path = functions.folder / f"items/{item['_id']}.json"
    written = datetime.now(UTC) - 2 * CLOCK_UNCERTAINTY - timedelta(seconds=1)
    os.utime(path, (written.timestamp(), written.timestamp()))

    functions.deliver({"item_ids": [item["_id"]]})

    flows = [value["flow_id"] for value in values(items_topic.take_all())]
    assert flows == ["of the event", "of the API"]


def test_a_stored_item_that_was_never_published_is_published_after_it_was_deleted_from_dimmy(
    functions: InProcess, items_topic: PublishedItems
) -> None:
    item_id, event_id = functions.api.put(catalogue.make_item(RNG)), new_message_id()
    with items_topic.cut():
        functions.deliver({"item_ids": [item_id]}, event_id)
    functions.api.delete(item_id)

    status, receipt = functions.deliver({"item_ids": [item_id]}, event_id)

    (value,) = values(items_topic.take_all())
    assert (status, receipt["items"][item_id][:4]) == (503, "404:")
    assert value["item"] == functions.stored(item_id)


def test_a_content_that_was_replaced_during_a_slow_publish_is_published_last(
    functions: InProcess, items_topic: PublishedItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = catalogue.make_item(RNG)
    path = functions.folder / f"items/{item['_id']}.json"
    replacement = json.dumps(item | {"flow_id": "of another writer"}, separators=(",", ":"))
    publish = ItemsTopic.publish

    def publish_slowly(topic: ItemsTopic, published: Item, event_id: str | None = None) -> None:
        publish(topic, published, event_id)
        path.write_text(replacement)

    monkeypatch.setattr(fetching, "_SLOW_PUBLISH_SECONDS", 0.0)
    monkeypatch.setattr(ItemsTopic, "publish", publish_slowly)

    functions.deliver(item)

    flows = [value["flow_id"] for value in values(items_topic.take_all())]
    assert flows == [item["flow_id"], "of another writer"]
