"""The sandbox's Pub/Sub keeps on disk what is not acknowledged, whatever ends it.

One of them: .venv/bin/pytest tests/stand_ins/test_pubsub_file.py -k killed
"""

import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.pubsub_v1 import types

from operate.google.deployment import ROOT
from sandbox.background import Background
from sandbox.processes import Process
from sandbox.pubsub import PubSub
from sandbox.pubsub_admin import PubSubAdmin, subscription_path, topic_path
from sandbox.pubsub_file import (
    QueueFile,
    QueueFileError,
    StoredMessage,
    Waiting,
    read_waiting,
)
from support.waiting import wait_for

Server = tuple[Process, PubSubAdmin]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """Starts servers on one file, each in its own process."""
    started: list[Server] = []

    def start() -> Server:
        process = Process(
            [sys.executable, "-m", "sandbox.pubsub", "--port=0", f"--file={tmp_path / 'queue'}"],
            {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
            | {"PATH": os.environ["PATH"]}
            | {"PYTHONPATH": ":".join(str(ROOT / part) for part in ("function", "infra", "tests"))},
        )
        process.wait_until(lambda: bool(process.lines))
        found = re.search(r"127\.0\.0\.1:\d+", process.lines[-1])
        assert found, process.lines
        started.append((process, PubSubAdmin(found[0])))
        return started[-1]

    yield start
    for process, admin in started:
        admin.close()
        process.stop()


def create(admin: PubSubAdmin) -> None:
    """A topic with two subscriptions, and dead letters of the first of them."""
    for topic in ("events", "dead"):
        admin.create_topic(topic)
    admin.create_subscription("dead", "dead")
    admin.create_subscription("first", "events", dead_letter_topic="dead")
    admin.create_subscription("second", "events")


def test_what_a_killed_server_has_confirmed_is_delivered_by_the_next_one(
    serve: Callable[[], Server],
) -> None:
    process, admin = serve()
    create(admin)
    ids = [admin.publish("events", bytes([n, 0xFF]), note=f"größer {n}") for n in range(3)]
    pulled = admin.pull("second")
    admin.acknowledge("second", [each for each in pulled if each.message_id == ids[0]])

    process.kill()
    _, admin = serve()
    create(admin)

    again = {each.message_id: each for each in admin.pull("first", timeout=20)}
    assert [*again] == ids
    assert [each.data for each in again.values()] == [bytes([n, 0xFF]) for n in range(3)]
    assert again[ids[1]].attributes == {"note": "größer 1"}
    assert {each.message_id: each.published_at for each in pulled} == {
        each.message_id: each.published_at for each in again.values()
    }
    assert [each.message_id for each in admin.pull("second")] == ids[1:]
    assert int(admin.publish("events", b"new")) > int(ids[-1])


def test_attempts_and_dead_letters_outlive_a_kill(serve: Callable[[], Server]) -> None:
    process, admin = serve()
    create(admin)
    admin.publish("events", b"poison")

    def fail() -> int:
        """Refuse the message once; the number of the attempt."""
        (pulled,) = wait_for(lambda: admin.pull("first"), "the message")
        admin.nack("first", [pulled])
        return pulled.delivery_attempt

    assert [fail(), fail(), fail()] == [1, 2, 3]
    process.kill()
    process, admin = serve()
    create(admin)
    assert [fail(), fail()] == [4, 5]
    process.kill()
    _, admin = serve()
    create(admin)

    (dead,) = wait_for(lambda: admin.pull("dead"), "the dead letter")
    assert dead.data == b"poison"
    assert dead.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"
    assert admin.pull("first", timeout=2) == []


def waiting_in(path: Path, subscription: str) -> list[Waiting]:
    (found,) = read_waiting(path, [subscription_path(subscription)]).values()
    return found


def test_others_can_read_what_waits_while_the_server_runs_and_after_it(
    serve: Callable[[], Server], tmp_path: Path
) -> None:
    process, admin = serve()
    create(admin)
    message_id = admin.publish("events", b"a scan", **{"svix-id": "msg_1"})

    def waiting(subscription: str) -> list[tuple[int, str]]:
        found = waiting_in(tmp_path / "queue", subscription)
        return [(each.number, each.attributes["svix-id"]) for each in found]

    assert waiting("first") == waiting("second") == [(int(message_id), "msg_1")]
    admin.acknowledge("second", admin.pull("second"))
    assert waiting("second") == []
    process.kill()
    assert waiting("first") == [(int(message_id), "msg_1")]


def test_a_deleted_subscription_leaves_nothing_behind(
    serve: Callable[[], Server], tmp_path: Path
) -> None:
    process, admin = serve()
    create(admin)
    admin.publish("events", b"a scan")

    admin.delete_subscription("first")

    assert waiting_in(tmp_path / "queue", "first") == []
    process.stop()
    assert len(waiting_in(tmp_path / "queue", "second")) == 1


def test_a_publication_that_cannot_be_stored_is_not_kept_in_part(tmp_path: Path) -> None:
    message = StoredMessage(1, 0, "2026-11-01T08:00:00Z", {}, b"1")
    with closing(QueueFile(tmp_path / "queue")) as file:
        file.add(["s"], [message])
        with pytest.raises(sqlite3.IntegrityError):
            file.add(["s"], [StoredMessage(2, 0, "2026-11-01T08:00:00Z", {}, b"2"), message])

        assert file.messages("s") == [message]


def test_a_clock_that_was_put_back_does_not_give_ids_twice(
    serve: Callable[[], Server], tmp_path: Path
) -> None:
    later = 10**17
    with closing(QueueFile(tmp_path / "queue")) as file:
        message = StoredMessage(later, 0, "2026-11-01T08:00:00Z", {}, b"1")
        file.add([subscription_path("first")], [message])
    _, admin = serve()
    create(admin)

    assert int(admin.publish("events", b"2")) > later


def publish(channel: grpc.Channel, data: bytes) -> None:
    """Publish once; the library's client would try again for minutes."""
    call: grpc.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
        "/google.pubsub.v1.Publisher/Publish", request_serializer=types.PublishRequest.serialize
    )
    call(types.PublishRequest(topic=topic_path("events"), messages=[{"data": data}]))


class LockedQueueFile(QueueFile):
    """Can be made to refuse every change, as on a full disk."""

    def refuse_changes(self) -> None:
        self._database.execute("PRAGMA query_only = ON")


def test_delivery_goes_on_while_the_file_cannot_be_changed(
    background: Background, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = LockedQueueFile(tmp_path / "queue")
    server = PubSub(file=file)
    with closing(PubSubAdmin(f"127.0.0.1:{background.run(server.start())}")) as admin:
        create(admin)
        admin.publish("events", b"a scan")
        file.refuse_changes()

        (pulled,) = admin.pull("first")
        admin.nack("first", [pulled])
        (again,) = wait_for(lambda: admin.pull("first"), "the next delivery")
        admin.acknowledge("first", [again])

        assert (again.data, again.delivery_attempt) == (b"a scan", 2)
        assert admin.pull("first", timeout=2) == []
        assert "cannot change its messages on disk: attempt to write" in capfd.readouterr().err
        with (
            grpc.insecure_channel(admin.host) as channel,
            pytest.raises(grpc.RpcError, match="cannot be written to the disk") as refused,
        ):
            publish(channel, b"another")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    background.run(server.stop())
    file.close()


@pytest.mark.parametrize("content", [b"not a database " * 100, None])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "queue"
    if content:
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 7")

    for read in (QueueFile, lambda each: read_waiting(each, ["s"])):
        with pytest.raises(QueueFileError, match=f"{path}, where events wait, cannot be used"):
            read(path)
