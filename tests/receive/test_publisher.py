"""The publisher: confirmed or failed, and many requests in few round trips.

One of them: .venv/bin/pytest tests/receive/test_publisher.py -k burst
"""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from svix.webhooks import Webhook

from pipeline.receive import publisher as publisher_module
from pipeline.receive.publisher import MAX_BATCH_BYTES, MAX_IN_FLIGHT, PublishError, open_publisher
from pipeline.receive.verification import VerifiedEvent, Verifier, read_headers
from sandbox.background import Background
from sandbox.pubsub import PubSub
from sandbox.pubsub_admin import PubSubAdmin, topic_path
from sandbox.relay import Relay

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class CountingPubSub(PubSub):
    """Ours, with a look at each publish request, and slow where a test wants it so."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[bytes]] = []
        self.largest = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.unavailable = 0
        self.forgetful = False
        self._arrived = asyncio.Condition()

    async def requests(self, count: int) -> None:
        """Until so many publish requests have come."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.batches) >= count)

    async def _publish(self, request: Any, context: Any) -> Any:
        self.batches.append([message.data for message in request.messages])
        self.largest = max(self.largest, request.ByteSize())
        async with self._arrived:
            self._arrived.notify_all()
        await self.go_on.wait()
        if self.unavailable:
            self.unavailable -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "for a moment")
        response = await super()._publish(request, context)
        if self.forgetful:
            del response.message_ids[-1]
        return response


def verified(event_id: str, body: str = "{}") -> VerifiedEvent:
    now = datetime.fromtimestamp(int(time.time()), UTC)
    headers = {
        "svix-id": event_id,
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": Webhook(SECRET).sign(event_id, now, body),
    }
    return Verifier([SECRET]).verify(read_headers(headers.get), body.encode())


@pytest.fixture
def pubsub_server(background: Background) -> Iterator[tuple[CountingPubSub, str]]:
    server = CountingPubSub()
    host = f"127.0.0.1:{background.run(server.start())}"
    admin = PubSubAdmin(host)
    admin.create_topic("events")
    admin.close()
    yield server, host
    background.run(server.stop())


def test_a_burst_shares_round_trips_and_each_is_confirmed(
    pubsub_server: tuple[CountingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server

    async def burst() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        server.go_on.clear()
        events = [verified(f"e{n}", f'"{n}"') for n in range(500)]
        waiting = [asyncio.create_task(publisher.publish(event)) for event in events]
        await server.requests(1)
        assert not any(task.done() for task in waiting), "confirmed before Pub/Sub has confirmed"
        server.go_on.set()
        await asyncio.gather(*waiting)

    background.run(burst())

    arrived = [data for batch in server.batches for data in batch]
    assert sorted(arrived) == sorted(f'"{n}"'.encode() for n in range(500))
    assert len(server.batches) <= 6


def test_a_lone_event_waits_for_nobody_even_while_another_publish_hangs(
    pubsub_server: tuple[CountingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server

    async def two() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        server.go_on.clear()
        first = asyncio.create_task(publisher.publish(verified("first")))
        await server.requests(1)
        second = asyncio.create_task(publisher.publish(verified("second")))
        await server.requests(2)  # it is on its way although the first one hangs
        server.go_on.set()
        await asyncio.gather(first, second)

    background.run(asyncio.wait_for(two(), 20))


def test_while_a_few_publishes_are_under_way_the_others_gather_for_the_next(
    pubsub_server: tuple[CountingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server

    async def gather() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        server.go_on.clear()
        tasks = []
        for number in range(MAX_IN_FLIGHT):
            tasks.append(asyncio.create_task(publisher.publish(verified(f"way{number}"))))
            await server.requests(number + 1)
        for number in range(10):
            tasks.append(asyncio.create_task(publisher.publish(verified(f"next{number}"))))
            await asyncio.sleep(0)
        assert len(server.batches) == MAX_IN_FLIGHT
        server.go_on.set()
        await asyncio.gather(*tasks)

    background.run(asyncio.wait_for(gather(), 20))

    assert [len(batch) for batch in server.batches] == [1] * MAX_IN_FLIGHT + [10]


def test_no_request_outgrows_pubsubs_limit(
    pubsub_server: tuple[CountingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server

    async def large() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        await asyncio.gather(
            *(publisher.publish(verified(f"large{n}", "x" * 4_000_000)) for n in range(7))
        )

    background.run(large())

    assert sum(len(batch) for batch in server.batches) == 7
    assert 4_000_000 < server.largest <= MAX_BATCH_BYTES + 100


def test_one_refusal_does_not_stop_those_that_come_later(
    pubsub_server: tuple[CountingPubSub, str], background: Background
) -> None:
    _, host = pubsub_server

    async def refused_then_fine() -> None:
        publisher = await open_publisher(topic_path("later"), host)
        with pytest.raises(PublishError, match="NOT_FOUND"):
            await publisher.publish(verified("early"))
        admin = PubSubAdmin(host)
        await asyncio.to_thread(admin.create_topic, "later")
        await publisher.publish(verified("late"))
        admin.close()

    background.run(asyncio.wait_for(refused_then_fine(), 20))


def test_a_passing_refusal_is_bridged_within_the_request(
    pubsub_server: tuple[CountingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server
    server.unavailable = 2

    async def publish() -> None:
        await (await open_publisher(topic_path("events"), host)).publish(
            verified("patient", '"patient"')
        )

    background.run(asyncio.wait_for(publish(), 30))

    assert server.batches == [[b'"patient"']] * 3


def test_a_confirmation_of_fewer_messages_is_no_confirmation(
    pubsub_server: tuple[CountingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server
    server.forgetful = True

    async def publish() -> None:
        await (await open_publisher(topic_path("events"), host)).publish(verified("forgotten"))

    with pytest.raises(PublishError, match="another number"):
        background.run(asyncio.wait_for(publish(), 30))


def test_a_connection_that_goes_silent_is_left_for_a_new_one(
    pubsub_server: tuple[CountingPubSub, str],
    background: Background,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, host = pubsub_server
    monkeypatch.setattr(publisher_module, "TRY_SECONDS", 0.5)

    async def silence() -> None:
        relay = Relay(int(host.rpartition(":")[2]))
        publisher = await open_publisher(topic_path("events"), f"127.0.0.1:{await relay.start()}")
        await publisher.publish(verified("before"))
        relay.swallow()  # what there is of connections; new ones are fine
        await publisher.publish(verified("after", '"after"'))
        await publisher.close()
        await relay.cut()

    background.run(asyncio.wait_for(silence(), 8))

    assert server.batches == [[b"{}"], [b'"after"']]


def test_without_credentials_the_publish_fails_and_nothing_else(
    background: Background, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))

    async def open_it() -> None:
        await open_publisher(topic_path("events"), None)

    with pytest.raises(PublishError, match="no credentials"):
        background.run(open_it())


def test_without_an_emulator_it_goes_to_google_with_the_default_credentials(
    background: Background, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as can be seen without a network: credentials are found and a channel is made."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account = {
        "type": "service_account",
        "client_email": "receiver@project.iam.gserviceaccount.com",
        "token_uri": "https://127.0.0.1:1/token",
        "private_key": key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ).decode(),
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))

    async def open_and_close() -> None:
        await (await open_publisher(topic_path("events"), None)).close()

    background.run(open_and_close())


def test_a_request_that_gave_up_waiting_is_not_published_later(
    pubsub_server: tuple[CountingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server

    async def give_up() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        server.go_on.clear()
        hanging = []
        for number in range(MAX_IN_FLIGHT):
            hanging.append(asyncio.create_task(publisher.publish(verified(f"hanging{number}"))))
            await server.requests(number + 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(publisher.publish(verified("gone", '"gone"')), 0.2)
        server.go_on.set()
        await asyncio.gather(*hanging)
        await publisher.publish(verified("last"))

    background.run(asyncio.wait_for(give_up(), 20))

    assert b'"gone"' not in [data for batch in server.batches for data in batch]
