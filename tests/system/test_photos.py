"""Photos, from the webhook to storage: the whole pipeline with `archive`, on each Pub/Sub.

One of them: .venv/bin/pytest tests/system/test_photos.py -k late
"""

import dataclasses
import json
import random
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from operate.commands import status, trace
from pipeline.archive.photos import is_name, name_of, photos_of
from sandbox import catalogue
from sandbox.catalogue import Item
from sandbox.dimmy_api import DimmyApi
from sandbox.environment import announce
from sandbox.installation import SandboxInstallation
from sandbox.log_file import LogFile
from sandbox.photos import PhotoFault
from sandbox.pubsub_admin import subscription_path
from sandbox.pubsub_file import QUEUE_FILE, QueueFile, StoredMessage
from sandbox.stack import ARCHIVE, ARCHIVE_DEAD_LETTERS, PubSubKind, Stack, start_stack
from support.commands import printed_by
from support.waiting import wait_for

RNG = random.Random()
ATTEMPTS = 5


@pytest.fixture(scope="module")
def stack(pubsub_kind: PubSubKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp(pubsub_kind)
    log_file = LogFile(folder)
    # Google's emulator loses messages if the subscription has a backoff.
    backoff = None if pubsub_kind == "google" else (0.2, 0.5)
    with (
        start_stack(
            folder,
            pubsub=pubsub_kind,
            photos=True,
            keeps_messages=True,
            backoff_seconds=backoff,
            max_delivery_attempts=ATTEMPTS,
            on_log=log_file.add,
        ) as running,
        announce(running.running, folder),
    ):
        yield running


@pytest.fixture
def api(stack: Stack) -> Iterator[DimmyApi]:
    assert stack.api
    yield stack.api
    stack.api.photos.clear_faults()


def new_item(api: DimmyApi, photos: int = 2) -> Item:
    return catalogue.make_item(RNG, photos, api.photo_url_prefix)


def names_of(api: DimmyApi, item: Item) -> list[str]:
    """The names under which Dimmy serves the photos of an item."""
    return [str(photo.address).removeprefix(api.photo_url_prefix) for photo in photos_of(item)]


def scan(stack: Stack, api: DimmyApi, item: Item) -> None:
    stack.send({"item_ids": [api.put(item)]})


def stored(stack: Stack, item: Item) -> dict[str, bytes]:
    folder = stack.folder / "photos" / item["_id"]
    paths = [path for path in folder.glob("*") if is_name(path.name)]  # not one in the making
    return {path.name: path.read_bytes() for path in paths}


def all_of(api: DimmyApi, item: Item) -> dict[str, bytes]:
    """What has to be stored of the photos of an item."""
    names = names_of(api, item)
    return {name_of(api.photo_url_prefix + name): api.photos.content_of(name) for name in names}


def test_the_photos_of_a_scan_are_stored(stack: Stack, api: DimmyApi) -> None:
    scan(stack, api, item := new_item(api, 3))

    wait_for(lambda: stored(stack, item) == all_of(api, item), "the photos")

    code, output = printed_by(trace.run, stack.folder, ITEM=item["_id"])
    assert code == 0
    assert "3 of 3 photos in storage." in output


@pytest.mark.parametrize("status_code", [403, 404])
def test_a_late_photo_is_stored_by_a_later_delivery(
    stack: Stack, api: DimmyApi, status_code: int
) -> None:
    item = new_item(api)
    late, _ = names_of(api, item)
    api.photos.fail(PhotoFault("status", status_code, name=late, times=2))
    scan(stack, api, item)

    wait_for(lambda: stored(stack, item) == all_of(api, item), "both photos")

    assert api.photos.requests_for(late) == 3


def test_a_photo_that_never_comes_ends_among_the_dead_letters_and_is_listed(
    stack: Stack, api: DimmyApi
) -> None:
    item = new_item(api)
    missing, present = names_of(api, item)
    api.photos.fail(PhotoFault("status", 404, name=missing))
    scan(stack, api, item)

    def dead_letters() -> list[str]:
        pulled = stack.admin.pull(ARCHIVE_DEAD_LETTERS)
        stack.admin.acknowledge(ARCHIVE_DEAD_LETTERS, pulled)
        return [str(json.loads(each.data)["item_id"]) for each in pulled]

    assert item["_id"] in wait_for(dead_letters, "the dead letter")
    name, other = (name_of(api.photo_url_prefix + each) for each in (missing, present))
    assert stored(stack, item) == {other: api.photos.content_of(present)}
    code, output = printed_by(trace.run, stack.folder, ITEM=item["_id"])
    assert code == 0, "the item itself is stored"
    assert f"{name}  404: Not Found" in output
    assert f"{other}  stored" in output
    assert "1 of 2 photos in storage, 1 waiting" in output


def test_a_photo_on_another_host_is_refused_and_listed(stack: Stack, api: DimmyApi) -> None:
    item = catalogue.make_item(RNG, 1, "https://photos.example.com/")
    scan(stack, api, item)
    (photo,) = photos_of(item)

    def output() -> str:
        return printed_by(trace.run, stack.folder, ITEM=item["_id"])[1]

    wait_for(lambda: f"{photo.name}  refused: its address is not on a host" in output())

    assert printed_by(trace.run, stack.folder, ITEM=item["_id"])[0] == 1
    assert "make republish SINCE=..." in output()
    code, status_output = printed_by(status.run, stack.folder)
    assert code == 1
    assert "items with refused photos" in status_output
    assert f"make trace ITEM={item['_id']}" in status_output


def test_the_status_counts_what_waits_and_what_pubsub_has_given_up(
    tmp_path_factory: pytest.TempPathFactory, stack: Stack
) -> None:
    folder = tmp_path_factory.mktemp("status")
    published_at = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    waiting = {"waits": ARCHIVE, "late": ARCHIVE, "gone": ARCHIVE_DEAD_LETTERS}
    with closing(QueueFile(folder / QUEUE_FILE)) as queue:
        for number, (event_id, subscription) in enumerate(waiting.items()):
            message = StoredMessage(number, 1, published_at, {"svix-id": event_id}, b"{}")
            queue.add([subscription_path(subscription)], [message])
    installation = SandboxInstallation({"DATA": str(folder)})

    with announce(dataclasses.replace(stack.running, keeps_messages=True), folder):
        assert installation.archives_photos()
        backlog = installation.photo_backlog()

    assert (backlog.waiting, backlog.dead_letters) == (2, 1)
    assert backlog.oldest_event_id == "waits"
    assert backlog.oldest_seconds
    assert backlog.oldest_seconds >= 7200


def test_the_history_of_an_event_includes_its_photos(stack: Stack, api: DimmyApi) -> None:
    item = new_item(api)
    message = stack.send({"item_ids": [api.put(item)]})

    def output() -> str:
        return printed_by(trace.run, stack.folder, EVENT=message.message_id)[1]

    wait_for(lambda: f"photos     archived of {item['_id']}" in output(), "the photos")
