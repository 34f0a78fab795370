"""The sandbox's Pub/Sub behaves like Google's emulator: the same tests run against both.

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
from sandbox.pubsub_admin import PubSubAdmin, PulledMessage
from sandbox.web_server import WebServer
from support.waiting import wait_for


class Endpoint:
    """Records pushes and answers with `statuses` in order, then repeats the last one."""

    def __init__(self) -> None:
        self.pushes: list[dict[str, Any]] = []
        self.arrival_times: list[float] = []
        self.statuses = [204]
        self._server: WebServer | None = None

    @property
    def url(self) -> str:
        assert self._server
        return f"{self._server.url}/push"

    def bodies(self) -> list[bytes]:
        return [base64.b64decode(push["message"]["data"]) for push in self.pushes]

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/push", self._receive)
        self._server = await WebServer.start(app)

    async def stop(self) -> None:
        if self._server:
            await self._server.stop()

    async def _receive(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/json"
        self.arrival_times.append(time.monotonic())
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
    """The name of a new topic, also used for a subscription to it."""
    name = f"t-{uuid.uuid4().hex}"
    pubsub.create_topic(name)
    return name


def pull_and_acknowledge(pubsub: PubSubAdmin, subscription: str, count: int) -> list[PulledMessage]:
    """Pull messages until there are `count`, and acknowledge them."""
    found: list[PulledMessage] = []

    def has_enough() -> bool:
        batch = pubsub.pull(subscription)
        if batch:
            pubsub.acknowledge(subscription, batch)
        found.extend(batch)
        return len(found) >= count

    wait_for(has_enough, f"{count} messages")
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
def test_a_success_status_acknowledges_the_message(
    pubsub: PubSubAdmin, name: str, endpoint: Endpoint, status: int
) -> None:
    endpoint.statuses = [status, 204]
    pubsub.create_subscription(name, name, push_endpoint=endpoint.url)
    pubsub.publish(name, b"first")
    wait_for(lambda: endpoint.bodies() == [b"first"], "the first push")

    pubsub.modify_push_config(name, "")
    pubsub.publish(name, b"second")

    assert [message.data for message in pull_and_acknowledge(pubsub, name, 1)] == [b"second"]


@pytest.mark.parametrize("status", [205, 302, 400, 404, 429, 500, 503])
def test_any_other_status_redelivers_the_message(
    pubsub: PubSubAdmin, name: str, endpoint: Endpoint, status: int
) -> None:
    endpoint.statuses = [status, 204]
    pubsub.create_subscription(name, name, push_endpoint=endpoint.url)

    pubsub.publish(name, b"retried")

    wait_for(lambda: endpoint.bodies() == [b"retried"] * 2, "the second push")


def test_an_endpoint_that_starts_later_gets_the_waiting_messages(
    pubsub: PubSubAdmin, name: str, background: Background
) -> None:
    stopped = Endpoint()
    background.run(stopped.start())
    url = stopped.url
    background.run(stopped.stop())
    pubsub.create_subscription(name, name, push_endpoint=url)
    for number in range(5):
        pubsub.publish(name, b"%d" % number)

    started = Endpoint()
    background.run(started.start())
    try:
        pubsub.modify_push_config(name, started.url)
        wait_for(lambda: set(started.bodies()) == {b"0", b"1", b"2", b"3", b"4"}, "all messages")
    finally:
        pubsub.modify_push_config(name, "")
        background.run(started.stop())


def test_backoff_delays_the_attempts(pubsub: PubSubAdmin, name: str, endpoint: Endpoint) -> None:
    endpoint.statuses = [500, 500, 500, 204]
    pubsub.create_subscription(name, name, push_endpoint=endpoint.url, backoff_seconds=(1.0, 3.0))

    pubsub.publish(name, b"delayed")

    wait_for(lambda: len(endpoint.pushes) == 4, "the fourth push")
    # Lower bounds only: on a slow machine the delays are longer.
    assert endpoint.arrival_times[1] - endpoint.arrival_times[0] >= 0.8
    assert endpoint.arrival_times[3] - endpoint.arrival_times[0] >= 4.5


def test_after_its_last_attempt_a_message_is_a_dead_letter_that_names_its_source(
    pubsub: PubSubAdmin, name: str, endpoint: Endpoint
) -> None:
    endpoint.statuses = [500]
    dead_letters = f"{name}-dead"
    pubsub.create_topic(dead_letters)
    pubsub.create_subscription(dead_letters, dead_letters)
    pubsub.create_subscription(
        name,
        name,
        push_endpoint=endpoint.url,
        dead_letter_topic=dead_letters,
        max_delivery_attempts=5,
    )

    message_id = pubsub.publish(name, b"poison", **{"svix-id": "msg_1"})

    (dead_letter,) = pull_and_acknowledge(pubsub, dead_letters, 1)
    assert len(endpoint.pushes) == 5
    assert dead_letter.data == b"poison"
    assert dead_letter.message_id != message_id
    published = dead_letter.attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime")
    assert datetime.fromisoformat(published).tzinfo
    assert dead_letter.attributes == {
        "svix-id": "msg_1",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": name,
        "CloudPubSubDeadLetterSourceSubscriptionProject": "sandbox",
    }


def test_a_subscription_is_drained_by_a_temporary_push_endpoint(
    pubsub: PubSubAdmin, name: str, endpoint: Endpoint
) -> None:
    pubsub.create_subscription(name, name)
    for number in range(3):
        pubsub.publish(name, b"%d" % number)

    pubsub.modify_push_config(name, endpoint.url)
    wait_for(lambda: set(endpoint.bodies()) == {b"0", b"1", b"2"}, "the backlog")
    pubsub.modify_push_config(name, "")
    pubsub.publish(name, b"later")

    assert [message.data for message in pull_and_acknowledge(pubsub, name, 1)] == [b"later"]
    assert len(endpoint.pushes) == 3


def test_a_negatively_acknowledged_message_is_redelivered_and_its_attempts_are_counted(
    pubsub: PubSubAdmin, name: str
) -> None:
    dead_letters = f"{name}-dead"
    pubsub.create_topic(dead_letters)
    pubsub.create_subscription(dead_letters, dead_letters)
    pubsub.create_subscription(name, name, dead_letter_topic=dead_letters)
    pubsub.publish(name, b"again", kind="k")

    attempts = []
    for _ in range(5):
        batch = wait_for(lambda: pubsub.pull(name), "the message")
        attempts.append(batch[0].delivery_attempt)
        pubsub.nack(name, batch)

    assert attempts == [1, 2, 3, 4, 5]
    # Google's emulator checks the count only at the next pull.
    assert pubsub.pull(name, timeout=3) == []
    (dead_letter,) = pull_and_acknowledge(pubsub, dead_letters, 1)
    assert dead_letter.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"


def test_an_acknowledged_message_is_not_redelivered(pubsub: PubSubAdmin, name: str) -> None:
    pubsub.create_subscription(name, name, ack_deadline_seconds=10)
    pubsub.publish(name, b"once")
    pull_and_acknowledge(pubsub, name, 1)

    pubsub.publish(name, b"other")

    assert [message.data for message in pull_and_acknowledge(pubsub, name, 1)] == [b"other"]


def test_every_subscription_gets_a_copy(pubsub: PubSubAdmin, name: str) -> None:
    pubsub.create_subscription(name, name)
    pubsub.create_subscription(f"{name}-2", name)

    pubsub.publish(name, b"both")

    assert [m.data for m in pull_and_acknowledge(pubsub, name, 1)] == [b"both"]
    assert [m.data for m in pull_and_acknowledge(pubsub, f"{name}-2", 1)] == [b"both"]


def test_an_empty_subscription_returns_no_message(pubsub: PubSubAdmin, name: str) -> None:
    pubsub.create_subscription(name, name)

    assert pubsub.pull(name, timeout=2) == []


def test_a_missing_resource_is_reported_as_not_found(pubsub: PubSubAdmin, name: str) -> None:
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


def test_an_existing_resource_is_not_created_again(pubsub: PubSubAdmin, name: str) -> None:
    pubsub.create_subscription(name, name)

    with pytest.raises(exceptions.AlreadyExists):
        pubsub.create_topic(name)
    with pytest.raises(exceptions.AlreadyExists):
        pubsub.create_subscription(name, name)


def test_an_invalid_request_is_refused(pubsub: PubSubAdmin, name: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.create_topic("no")
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publish(name, b"")
    with pytest.raises(exceptions.OutOfRange):
        pubsub.create_subscription(name, name, dead_letter_topic=name, max_delivery_attempts=101)
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.create_subscription(name, name, ack_deadline_seconds=601)
