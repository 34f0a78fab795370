"""Our Pub/Sub held to Google's emulator: one suite, run against both.

One of them: .venv/bin/pytest tests/stand_ins/test_pubsub.py -k "dead and own"
"""

import base64
import json
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from aiohttp import web
from google.api_core import exceptions

from sandbox.background import Background
from sandbox.pubsub_admin import PubSubAdmin, Pulled
from support.waiting import wait_for


class Endpoint:
    """Takes pushes and answers with the statuses that it was told, the last one for ever."""

    def __init__(self) -> None:
        self.pushes: list[dict[str, Any]] = []
        self.arrived: list[float] = []
        self.statuses = [204]
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        assert self._runner
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/push"

    def bodies(self) -> list[bytes]:
        return [base64.b64decode(push["message"]["data"]) for push in self.pushes]

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/push", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/json"
        self.arrived.append(time.monotonic())
        self.pushes.append(json.loads(await request.read()))
        status = self.statuses[0] if len(self.statuses) == 1 else self.statuses.pop(0)
        return web.Response(status=status)


@pytest.fixture
def endpoint(background: Background) -> Iterator[Endpoint]:
    server = Endpoint()
    background.run(server.start())
    yield server
    background.run(server.stop())


@pytest.fixture
def name(pubsub: PubSubAdmin) -> str:
    """A topic, and the name for a subscription to it."""
    name = f"t-{uuid.uuid4().hex}"
    pubsub.create_topic(name)
    return name


def pulled(pubsub: PubSubAdmin, subscription: str, count: int) -> list[Pulled]:
    """So many messages, pulled and acknowledged."""
    found: list[Pulled] = []

    def enough() -> bool:
        batch = pubsub.pull(subscription)
        if batch:
            pubsub.acknowledge(subscription, batch)
        found.extend(batch)
        return len(found) >= count

    wait_for(enough, f"{count} messages")
    return found


def test_a_pushed_message_has_the_documented_envelope(
    pubsub: PubSubAdmin, name: str, endpoint: Endpoint
) -> None:
    pubsub.create_subscription(name, name, push_endpoint=endpoint.url)

    message_id = pubsub.publish(name, b"\x00\xff", kind="test", note="größer")

    wait_for(lambda: endpoint.pushes, "a push")
    envelope = endpoint.pushes[0]
    message = envelope["message"]
    assert envelope["subscription"] == f"projects/sandbox/subscriptions/{name}"
    assert message["messageId"] == message["message_id"] == message_id
    assert message["attributes"] == {"kind": "test", "note": "größer"}
    assert base64.b64decode(message["data"]) == b"\x00\xff"
    assert message["publishTime"] == message["publish_time"]
    assert datetime.fromisoformat(message["publishTime"]).tzinfo
    assert "orderingKey" not in message


@pytest.mark.parametrize("status", [102, 200, 201, 204])
def test_these_statuses_acknowledge(
    pubsub: PubSubAdmin, name: str, endpoint: Endpoint, status: int
) -> None:
    endpoint.statuses = [status, 204]
    pubsub.create_subscription(name, name, push_endpoint=endpoint.url)
    pubsub.publish(name, b"first")
    wait_for(lambda: endpoint.bodies() == [b"first"], "the first push")

    pubsub.modify_push_config(name, "")
    pubsub.publish(name, b"second")

    assert [message.data for message in pulled(pubsub, name, 1)] == [b"second"]


@pytest.mark.parametrize("status", [205, 302, 400, 404, 429, 500, 503])
def test_other_statuses_bring_the_message_back(
    pubsub: PubSubAdmin, name: str, endpoint: Endpoint, status: int
) -> None:
    endpoint.statuses = [status, 204]
    pubsub.create_subscription(name, name, push_endpoint=endpoint.url)

    pubsub.publish(name, b"stubborn")

    wait_for(lambda: endpoint.bodies() == [b"stubborn"] * 2, "the second push")


def test_an_endpoint_that_is_not_there_yet_gets_its_messages_later(
    pubsub: PubSubAdmin, name: str, background: Background
) -> None:
    late = Endpoint()
    background.run(late.start())
    url = late.url
    background.run(late.stop())
    pubsub.create_subscription(name, name, push_endpoint=url)
    for number in range(5):
        pubsub.publish(name, b"%d" % number)

    present = Endpoint()
    background.run(present.start())
    try:
        pubsub.modify_push_config(name, present.url)
        wait_for(lambda: set(present.bodies()) == {b"0", b"1", b"2", b"3", b"4"}, "all of them")
    finally:
        pubsub.modify_push_config(name, "")
        background.run(present.stop())


def test_backoff_spaces_the_attempts(pubsub: PubSubAdmin, name: str, endpoint: Endpoint) -> None:
    endpoint.statuses = [500, 500, 500, 204]
    pubsub.create_subscription(name, name, push_endpoint=endpoint.url, backoff_seconds=(1.0, 3.0))

    pubsub.publish(name, b"patience")

    wait_for(lambda: len(endpoint.pushes) == 4, "the fourth push")
    # Lower bounds only: a slow machine makes pauses longer.
    assert endpoint.arrived[1] - endpoint.arrived[0] >= 0.8
    assert endpoint.arrived[3] - endpoint.arrived[0] >= 4.5


def test_after_its_attempts_a_message_is_a_dead_letter_that_tells_where_it_comes_from(
    pubsub: PubSubAdmin, name: str, endpoint: Endpoint
) -> None:
    endpoint.statuses = [500]
    dead = f"{name}-dead"
    pubsub.create_topic(dead)
    pubsub.create_subscription(dead, dead)
    pubsub.create_subscription(
        name, name, push_endpoint=endpoint.url, dead_letter_topic=dead, max_delivery_attempts=5
    )

    message_id = pubsub.publish(name, b"poison", **{"svix-id": "msg_1"})

    (letter,) = pulled(pubsub, dead, 1)
    assert len(endpoint.pushes) == 5
    assert letter.data == b"poison"
    assert letter.message_id != message_id
    published = letter.attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime")
    assert datetime.fromisoformat(published).tzinfo
    assert letter.attributes == {
        "svix-id": "msg_1",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": name,
        "CloudPubSubDeadLetterSourceSubscriptionProject": "sandbox",
    }


def test_dead_letters_are_drained_by_pushing_them_for_a_while(
    pubsub: PubSubAdmin, name: str, endpoint: Endpoint
) -> None:
    pubsub.create_subscription(name, name)
    for number in range(3):
        pubsub.publish(name, b"%d" % number)

    pubsub.modify_push_config(name, endpoint.url)
    wait_for(lambda: set(endpoint.bodies()) == {b"0", b"1", b"2"}, "the backlog")
    pubsub.modify_push_config(name, "")
    pubsub.publish(name, b"later")

    assert [message.data for message in pulled(pubsub, name, 1)] == [b"later"]
    assert len(endpoint.pushes) == 3


def test_what_is_pulled_and_given_back_comes_again_and_is_counted(
    pubsub: PubSubAdmin, name: str
) -> None:
    dead = f"{name}-dead"
    pubsub.create_topic(dead)
    pubsub.create_subscription(dead, dead)
    pubsub.create_subscription(name, name, dead_letter_topic=dead)
    pubsub.publish(name, b"again", kind="k")

    attempts = []
    for _ in range(5):
        batch = wait_for(lambda: pubsub.pull(name), "the message")
        attempts.append(batch[0].delivery_attempt)
        pubsub.give_back(name, batch)

    assert attempts == [1, 2, 3, 4, 5]
    # Google's looks at the count when somebody asks for the message again.
    assert pubsub.pull(name, timeout=3) == []
    (letter,) = pulled(pubsub, dead, 1)
    assert letter.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"


def test_what_is_acknowledged_does_not_come_again(pubsub: PubSubAdmin, name: str) -> None:
    pubsub.create_subscription(name, name, ack_deadline_seconds=10)
    pubsub.publish(name, b"once")
    pulled(pubsub, name, 1)

    pubsub.publish(name, b"other")

    assert [message.data for message in pulled(pubsub, name, 1)] == [b"other"]


def test_every_subscription_gets_its_copy(pubsub: PubSubAdmin, name: str) -> None:
    pubsub.create_subscription(name, name)
    pubsub.create_subscription(f"{name}-2", name)

    pubsub.publish(name, b"both")

    assert [m.data for m in pulled(pubsub, name, 1)] == [b"both"]
    assert [m.data for m in pulled(pubsub, f"{name}-2", 1)] == [b"both"]


def test_an_empty_subscription_gives_nothing(pubsub: PubSubAdmin, name: str) -> None:
    pubsub.create_subscription(name, name)

    assert pubsub.pull(name, timeout=2) == []


def test_what_does_not_exist_is_not_found(pubsub: PubSubAdmin, name: str) -> None:
    with pytest.raises(exceptions.NotFound):
        pubsub.publish("missing", b"x")
    with pytest.raises(exceptions.NotFound):
        pubsub.pull("missing")
    with pytest.raises(exceptions.NotFound):
        pubsub.create_subscription(name, "missing")
    with pytest.raises(exceptions.NotFound):
        pubsub.create_subscription(name, name, dead_letter_topic="missing")
    with pytest.raises(exceptions.NotFound):
        pubsub.modify_push_config("missing", "")


def test_what_exists_is_not_created_again(pubsub: PubSubAdmin, name: str) -> None:
    pubsub.create_subscription(name, name)

    with pytest.raises(exceptions.AlreadyExists):
        pubsub.create_topic(name)
    with pytest.raises(exceptions.AlreadyExists):
        pubsub.create_subscription(name, name)


def test_what_is_malformed_is_refused(pubsub: PubSubAdmin, name: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.create_topic("no")
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publish(name, b"")
    with pytest.raises(exceptions.OutOfRange):
        pubsub.create_subscription(name, name, dead_letter_topic=name, max_delivery_attempts=101)
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.create_subscription(name, name, ack_deadline_seconds=601)
