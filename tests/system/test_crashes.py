"""SIGKILL at chosen points: no acknowledged event is lost, and no object is partly written.

The function is killed while it waits for Pub/Sub's confirmation, for an item of the API, or for a
write to storage.

One of them: .venv/bin/pytest tests/system/test_crashes.py -k publishing
"""

import asyncio
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox import catalogue
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from sandbox.dimmy_api import DimmyApi
from sandbox.functions import Function
from sandbox.pubsub_admin import PubSubAdmin
from sandbox.stack import new_secret
from sandbox.svix_sender import Attempt, SvixSender, new_message
from support.pubsub import HaltingPubSub
from support.resolving import envelope, start_resolve
from support.waiting import wait_for

VARIETY = random.Random()


@pytest.mark.parametrize("point", ["before publishing", "after publishing"])
def test_a_receive_killed_while_publishing_does_not_acknowledge_the_event(
    background: Background, tmp_path: Path, point: str
) -> None:
    server, secret = HaltingPubSub(), new_secret()
    server.halt_before, server.halt_after = point.startswith("b"), point.startswith("a")
    admin = PubSubAdmin(f"127.0.0.1:{background.run(server.start())}")
    topic = admin.create_topic("events")
    admin.create_subscription("events", "events")
    function = Function(
        "receive",
        {
            "SIGNING_SECRETS": secret,
            "EVENTS_TOPIC": topic,
            "STORAGE_URL": f"file://{tmp_path}",
            "PUBSUB_EMULATOR_HOST": admin.host,
        },
    )
    function.wait_until_up()
    message = new_message({"item_ids": []})

    async def kill_during_publish() -> tuple[Attempt, Attempt]:
        async with SvixSender(function.url, secret) as sender:
            first = asyncio.create_task(sender.attempt(message))
            await server.reached.wait()
            await asyncio.to_thread(function.kill)
            broken = await first
            server.halt_before = server.halt_after = False
            server.resume.set()
            function.start()
            await asyncio.to_thread(function.wait_until_up)
            return broken, await sender.attempt(message)

    broken, retried = background.run(kill_during_publish())
    published = admin.pull("events")
    function.stop()
    admin.close()
    background.run(server.stop())

    assert broken.status is None, "without an answer the sender retries"
    assert retried.status == 204
    assert {p.attributes["svix-id"] for p in published} == {message.message_id}
    assert all(p.data == message.body for p in published)


class KillableResolve:
    """A `resolve` whose requests to the API and to storage can be held while it is killed."""

    def __init__(self, background: Background) -> None:
        self.background = background
        self.storage = CloudStorage()
        self.api = DimmyApi("the-key-of-the-tests")
        background.run(self.storage.start())
        background.run(self.api.start())
        self.function = Function(
            "resolve",
            {
                "STORAGE_URL": "gs://scans",
                "STORAGE_EMULATOR_HOST": self.storage.url,
                "DIMMY_API_URL": self.api.url,
                "DIMMY_API_KEY": self.api.key,
                "DIMMY_CONCURRENCY": "1",
            },
        )
        self.function.wait_until_up()
        self.item_ids = [self.api.put(catalogue.make_item(VARIETY)) for _ in range(4)]

    def push(self, attempt: int) -> int | None:
        """Return the status, or None if the connection broke."""
        body = json.dumps(envelope({"item_ids": self.item_ids}, "msg_1", attempt)).encode()
        try:
            return requests.post(self.function.url, data=body, timeout=60).status_code
        except requests.ConnectionError:
            return None

    def kill_and_push_again(self) -> int | None:
        """Kill the function during its first attempt; return the status of a second one.

        What is held is released between the two.
        """
        self.function.kill()
        self.api.hold_requests(None)
        self.storage.hold_writes(None)
        self.function.start()
        self.function.wait_until_up()
        return self.push(attempt=2)

    def stored(self) -> dict[str, bytes]:
        prefix = "scans/items/"
        return {
            name.removeprefix(prefix).removesuffix(".json"): stored.content
            for name, stored in self.storage.objects.items()
            if name.startswith(prefix)
        }

    def receipt(self) -> dict[str, Any]:
        stored = self.storage.objects.get("scans/events/msg_1.json")
        receipt: dict[str, Any] = json.loads(stored.content) if stored else {}
        return receipt

    def stop(self) -> None:
        self.function.stop()
        self.background.run(self.api.stop())
        self.background.run(self.storage.stop())


@pytest.fixture
def resolve(background: Background) -> Iterator[KillableResolve]:
    running = KillableResolve(background)
    yield running
    running.stop()


def test_the_next_attempt_finishes_a_resolve_killed_between_two_items(
    resolve: KillableResolve,
) -> None:
    third = resolve.item_ids[2]
    resolve.api.hold_requests(third)
    with ThreadPoolExecutor(1) as sender:
        first = sender.submit(resolve.push, 1)
        wait_for(lambda: len(resolve.stored()) == 2, "two items in storage")
        second = resolve.kill_and_push_again()
        assert first.result() is None

    assert second == 204
    assert resolve.stored() == {i: resolve.api.body_of(i) for i in resolve.item_ids}
    assert resolve.receipt()["outcome"] == "done"


@pytest.mark.parametrize(
    ("point", "name"), [("receipt", "events/msg_1"), ("item", "items/")], ids=["receipt", "item"]
)
def test_a_resolve_killed_during_a_write_leaves_a_complete_object_or_none(
    resolve: KillableResolve, point: str, name: str
) -> None:
    """Killed while it writes the receipt, after all items, or while it writes an item."""
    resolve.storage.hold_writes(name)
    with ThreadPoolExecutor(1) as sender:
        first = sender.submit(resolve.push, 1)
        wait_for(lambda: resolve.storage.holds_write, f"the write of the {point}")
        assert resolve.receipt() == {}
        second = resolve.kill_and_push_again()
        assert first.result() is None

    assert second == 204
    assert resolve.stored() == {i: resolve.api.body_of(i) for i in resolve.item_ids}
    assert resolve.receipt()["outcome"] == "done"
    assert resolve.storage.repeated_writes == 0


def test_a_resolve_killed_during_a_write_to_a_file_leaves_no_partial_item(
    background: Background, tmp_path: Path
) -> None:
    api = DimmyApi("the-key-of-the-tests")
    background.run(api.start())
    function = start_resolve(api, tmp_path)
    item = catalogue.padded(catalogue.make_item(VARIETY), 20_000_000)
    body = json.dumps(item, separators=(",", ":")).encode()
    (tmp_path / "payloads").mkdir()
    (tmp_path / "payloads" / "msg_1").write_bytes(body)
    pushed = json.dumps(envelope(b"", "msg_1", 1, payload="payloads/msg_1")).encode()
    stored = tmp_path / "items" / f"{item['_id']}.json"

    def push() -> int | None:
        try:
            return requests.post(function.url, data=pushed, timeout=60).status_code
        except requests.ConnectionError:
            return None

    with ThreadPoolExecutor(1) as sender:
        first = sender.submit(push)
        # The store writes a temporary file and renames it, so either file shows that it has begun.
        wait_for(lambda: list(tmp_path.glob("items/*")), "the start of the write")
        function.kill()
        first.result()
    assert not stored.exists() or stored.read_bytes() == body
    function.start()
    function.wait_until_up()
    status = push()
    function.stop()
    background.run(api.stop())

    assert status == 204
    assert stored.read_bytes() == body
