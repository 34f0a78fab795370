"""The publisher: every publish is confirmed or fails, and concurrent ones share round trips.

One of them: .venv/bin/pytest tests/receive/test_publisher.py -k burst
"""

import asyncio
import itertools
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


class RecordingPubSub(PubSub):
    """Our Pub/Sub, recording its publish requests; it can be slow, unavailable or omit an id."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[bytes]] = []
        self.largest_request_bytes = 0
        self.may_respond = asyncio.Event()
        self.may_respond.set()
        self.unavailable = 0
        self.omits_an_id = False
        self._arrived = asyncio.Condition()

    async def wait_for_requests(self, count: int) -> None:
        """Wait until this many publish requests have arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.batches) >= count)

    async def _publish(self, request: Any, context: Any) -> Any:
        self.batches.append([message.data for message in request.messages])
        self.largest_request_bytes = max(self.largest_request_bytes, request.ByteSize())
        async with self._arrived:
            self._arrived.notify_all()
        await self.may_respond.wait()
        if self.unavailable:
            self.unavailable -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "temporarily unavailable")
        response = await super()._publish(request, context)
        if self.omits_an_id:
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
def pubsub_server(background: Background) -> Iterator[tuple[RecordingPubSub, str]]:
    server = RecordingPubSub()
    host = f"127.0.0.1:{background.run(server.start())}"
    admin = PubSubAdmin(host)
    admin.create_topic("events")
    admin.close()
    yield server, host
    background.run(server.stop())


def test_a_burst_shares_round_trips_and_each_event_is_confirmed(
    pubsub_server: tuple[RecordingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server

    async def publish_burst() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        server.may_respond.clear()
        events = [verified(f"e{n}", f'"{n}"') for n in range(500)]
        waiting = [asyncio.create_task(publisher.publish(event)) for event in events]
        await server.wait_for_requests(1)
        assert not any(task.done() for task in waiting), "returned before Pub/Sub confirmed"
        server.may_respond.set()
        await asyncio.gather(*waiting)

    background.run(publish_burst())

    arrived = [data for batch in server.batches for data in batch]
    assert sorted(arrived) == sorted(f'"{n}"'.encode() for n in range(500))
    assert len(server.batches) <= 6


def test_an_event_is_sent_at_once_while_another_publish_hangs(
    pubsub_server: tuple[RecordingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server

    async def publish_two() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        server.may_respond.clear()
        first = asyncio.create_task(publisher.publish(verified("first")))
        await server.wait_for_requests(1)
        second = asyncio.create_task(publisher.publish(verified("second")))
        await server.wait_for_requests(2)  # sent although the first one hangs
        server.may_respond.set()
        await asyncio.gather(first, second)

    background.run(asyncio.wait_for(publish_two(), 20))


def test_events_beyond_the_in_flight_limit_share_the_next_request(
    pubsub_server: tuple[RecordingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server

    async def fill_and_queue() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        server.may_respond.clear()
        tasks = []
        for number in range(MAX_IN_FLIGHT):
            tasks.append(asyncio.create_task(publisher.publish(verified(f"sent{number}"))))
            await server.wait_for_requests(number + 1)
        for number in range(10):
            tasks.append(asyncio.create_task(publisher.publish(verified(f"queued{number}"))))
            await asyncio.sleep(0)
        assert len(server.batches) == MAX_IN_FLIGHT
        server.may_respond.set()
        await asyncio.gather(*tasks)

    background.run(asyncio.wait_for(fill_and_queue(), 20))

    assert [len(batch) for batch in server.batches] == [1] * MAX_IN_FLIGHT + [10]


def test_no_request_exceeds_pubsubs_size_limit(
    pubsub_server: tuple[RecordingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server

    async def publish_large() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        await asyncio.gather(
            *(publisher.publish(verified(f"large{n}", "x" * 4_000_000)) for n in range(7))
        )

    background.run(publish_large())

    assert sum(len(batch) for batch in server.batches) == 7
    assert 4_000_000 < server.largest_request_bytes <= MAX_BATCH_BYTES + 100


def test_a_refused_publish_does_not_stop_later_ones(
    pubsub_server: tuple[RecordingPubSub, str], background: Background
) -> None:
    _, host = pubsub_server

    async def publish_without_and_with_topic() -> None:
        publisher = await open_publisher(topic_path("later"), host)
        with pytest.raises(PublishError, match="NOT_FOUND"):
            await publisher.publish(verified("early"))
        admin = PubSubAdmin(host)
        await asyncio.to_thread(admin.create_topic, "later")
        await publisher.publish(verified("late"))
        admin.close()

    background.run(asyncio.wait_for(publish_without_and_with_topic(), 20))


def test_a_transient_error_is_retried_within_the_request(
    pubsub_server: tuple[RecordingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server
    server.unavailable = 2

    async def publish() -> None:
        await (await open_publisher(topic_path("events"), host)).publish(
            verified("retried", '"retried"')
        )

    background.run(asyncio.wait_for(publish(), 30))

    assert server.batches == [[b'"retried"']] * 3


def test_a_response_with_too_few_message_ids_is_an_error(
    pubsub_server: tuple[RecordingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server
    server.omits_an_id = True

    async def publish() -> None:
        await (await open_publisher(topic_path("events"), host)).publish(verified("unconfirmed"))

    with pytest.raises(PublishError, match="another number"):
        background.run(asyncio.wait_for(publish(), 30))


def test_a_publish_that_is_never_confirmed_fails(
    pubsub_server: tuple[RecordingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server
    server.may_respond.clear()

    async def publish() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        # The last one waits until one of the others has failed.
        events = [verified(f"e{number}") for number in range(MAX_IN_FLIGHT + 1)]
        results = await asyncio.gather(
            *(publisher.publish(event) for event in events), return_exceptions=True
        )
        assert all(isinstance(result, PublishError) for result in results)

    background.run(asyncio.wait_for(publish(), 60))
    server.may_respond.set()


def test_an_event_is_not_refused_with_an_older_one_of_its_batch(
    pubsub_server: tuple[RecordingPubSub, str],
    background: Background,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, host = pubsub_server

    async def publish_old_and_new() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        server.may_respond.clear()

        def publish(event_id: str, seconds: float) -> asyncio.Task[None]:
            monkeypatch.setattr(publisher_module, "CONFIRMATION_SECONDS", seconds)
            return asyncio.create_task(publisher.publish(verified(event_id)))

        hanging = []
        for number in range(MAX_IN_FLIGHT):
            hanging.append(publish(f"hanging{number}", 1.0))
            await server.wait_for_requests(number + 1)
        old = publish("old", 2.0)
        await asyncio.sleep(0)
        new = publish("new", 60.0)
        for task in (*hanging, old):
            with pytest.raises(PublishError):
                await task
        server.may_respond.set()
        await new

    background.run(asyncio.wait_for(publish_old_and_new(), 60))

    assert 2 in [len(batch) for batch in server.batches]


def test_an_unresponsive_connection_is_replaced(
    pubsub_server: tuple[RecordingPubSub, str],
    background: Background,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, host = pubsub_server
    monkeypatch.setattr(publisher_module, "TRY_SECONDS", 2.0)

    async def publish_over_unresponsive_connection() -> None:
        relay = Relay(int(host.rpartition(":")[2]))
        publisher = await open_publisher(topic_path("events"), f"127.0.0.1:{await relay.start()}")
        await publisher.publish(verified("before"))
        relay.drop_data()  # only the open connections; new ones work
        await publisher.publish(verified("after", '"after"'))
        await publisher.close()
        await relay.cut()

    background.run(publish_over_unresponsive_connection())

    # A try whose answer comes too late is repeated.
    assert [batch for batch, _ in itertools.groupby(server.batches)] == [[b"{}"], [b'"after"']]


def test_missing_credentials_are_a_publish_error(
    background: Background, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))

    async def open_without_credentials() -> None:
        await open_publisher(topic_path("events"), None)

    with pytest.raises(PublishError, match="no credentials"):
        background.run(open_without_credentials())


def test_without_an_emulator_it_uses_google_and_the_default_credentials(
    background: Background, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What needs no network: the credentials are found and a channel is opened."""
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


def test_an_event_whose_request_timed_out_is_not_published_later(
    pubsub_server: tuple[RecordingPubSub, str], background: Background
) -> None:
    server, host = pubsub_server

    async def give_up() -> None:
        publisher = await open_publisher(topic_path("events"), host)
        server.may_respond.clear()
        hanging = []
        for number in range(MAX_IN_FLIGHT):
            hanging.append(asyncio.create_task(publisher.publish(verified(f"hanging{number}"))))
            await server.wait_for_requests(number + 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(publisher.publish(verified("abandoned", '"abandoned"')), 0.2)
        server.may_respond.set()
        await asyncio.gather(*hanging)
        await publisher.publish(verified("last"))

    background.run(asyncio.wait_for(give_up(), 20))

    assert b'"abandoned"' not in [data for batch in server.batches for data in batch]
