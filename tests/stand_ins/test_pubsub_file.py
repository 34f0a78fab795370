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

import pytest

from operate.google.deployment import ROOT
from sandbox.processes import Process
from sandbox.pubsub_admin import PubSubAdmin, subscription_path
from sandbox.pubsub_file import QueueFile, QueueFileError, StoredMessage, read_waiting
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


def test_others_can_read_what_waits_while_the_server_runs_and_after_it(
    serve: Callable[[], Server], tmp_path: Path
) -> None:
    process, admin = serve()
    create(admin)
    message_id = admin.publish("events", b"a scan", **{"svix-id": "msg_1"})

    def waiting(subscription: str) -> list[tuple[int, str]]:
        found = read_waiting(tmp_path / "queue", subscription_path(subscription))
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

    assert read_waiting(tmp_path / "queue", subscription_path("first")) == []
    process.stop()
    assert len(read_waiting(tmp_path / "queue", subscription_path("second"))) == 1


def test_a_publication_that_cannot_be_stored_is_not_kept_in_part(tmp_path: Path) -> None:
    message = StoredMessage(1, 0, "2026-11-01T08:00:00Z", {}, b"1")
    with closing(QueueFile(tmp_path / "queue")) as file:
        file.add(["s"], [message])
        with pytest.raises(sqlite3.IntegrityError):
            file.add(["s"], [StoredMessage(2, 0, "2026-11-01T08:00:00Z", {}, b"2"), message])

        assert file.messages("s") == [message]


@pytest.mark.parametrize("content", [b"not a database " * 100, None])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "queue"
    if content:
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 7")

    for read in (QueueFile, lambda each: read_waiting(each, "s")):
        with pytest.raises(QueueFileError, match=f"{path}, where events wait, cannot be used"):
            read(path)
