"""`make run` goes on with what waited when it was stopped or killed.

One of them: .venv/bin/pytest tests/system/test_restart.py -k waits
"""

import json
import random
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from operate.commands import trace
from operate.console import UsageError
from operate.ports import is_free
from sandbox import catalogue
from sandbox.processes import Process, free_port
from sandbox.pubsub_admin import subscription_path
from sandbox.pubsub_file import QUEUE_FILE, QueueFile, StoredMessage
from sandbox.sample_scans import SampleScans
from sandbox.stack import RESOLVE, new_secret
from sandbox.svix_sender import Message, new_message
from support.commands import Start, printed_by, send, starting
from support.programs import needs
from support.waiting import wait_for


class Runs:
    """One `make run` after another on one folder, and the commands on it."""

    def __init__(self, start: Start, folder: Path) -> None:
        self._start = start
        self.settings = {
            "DATA": str(folder),
            "PORT": str(free_port()),
            "SIGNING_SECRETS": new_secret(),
        }
        self.folder = folder

    def begin(self) -> Process:
        # The functions of a killed run end by themselves, a moment later.
        wait_for(lambda: is_free(int(self.settings["PORT"])), "the port")
        running = self._start("sandbox.run", **self.settings)
        running.wait_until(lambda: any(line.startswith("Up.") for line in running.lines))
        return running

    def send(self, message: Message) -> None:
        url = f"http://127.0.0.1:{self.settings['PORT']}/webhook"
        send(url, self.settings["SIGNING_SECRETS"], message)

    def make(self, command: str, **variables: str) -> tuple[int, str]:
        """The exit status of a command, and what it printed."""
        done = self._start(f"sandbox {command}", **self.settings, **variables)
        return done.wait(), "\n".join(done.lines)

    def make_run(self) -> tuple[int, str]:
        """The exit status of a `make run` that cannot begin, and what it printed."""
        done = self._start("sandbox.run", **self.settings)
        return done.wait(), "\n".join(done.lines)

    def scan_later(self, item: catalogue.Item) -> None:
        """Let the API of the next run know an item."""
        with (self.folder / "sandbox-api.jsonl").open("a") as file:
            file.write(json.dumps(item) + "\n")


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    with starting() as start:
        yield Runs(start, tmp_path)


def kill(running: Process) -> None:
    running.kill()


def interrupt(running: Process) -> None:
    running.send(signal.SIGINT)
    running.wait()


@pytest.mark.parametrize("end", [kill, interrupt])
def test_an_event_that_waits_is_resolved_by_the_next_run(
    runs: Runs, end: Callable[[Process], None]
) -> None:
    item = catalogue.make_item(random.Random(), photos=0)
    message = new_message({"item_ids": [item["_id"]]})
    running = runs.begin()
    runs.send(message)
    wait_for(lambda: any("resolved" in line and "404" in line for line in running.lines))
    wait_for(
        lambda: "delivers it again by itself" in runs.make("trace", EVENT=message.message_id)[1],
        "a failed attempt",
    )

    end(running)

    status, story = runs.make("trace", EVENT=message.message_id)
    assert status == 1
    assert "it waits on disk, and `make run` goes on with it" in story
    assert re.search(r"To do: (.*Then )?make run\.", story)
    status, shown = runs.make("status")
    assert status == 1
    assert re.search(r"events waiting +1, on disk: `make run` goes on with them", shown)

    runs.scan_later(item)
    runs.begin()

    stored = runs.folder / "items" / f"{item['_id']}.json"
    wait_for(stored.exists, "the item")
    wait_for(lambda: runs.make("trace", EVENT=message.message_id[-8:])[0] == 0, "the event")
    status, story = runs.make("trace", ITEM=item["_id"][-8:])
    assert status == 0
    assert message.message_id in story
    assert re.search(r"events waiting +0\s", runs.make("status")[1])


@needs("pubsub-emulator")
def test_what_googles_emulator_forgets_with_its_end_is_resolved_from_its_receipt(
    runs: Runs,
) -> None:
    runs.settings["PUBSUB"] = "google"
    item = catalogue.make_item(random.Random(), photos=0)
    message = new_message({"item_ids": [item["_id"]]})
    running = runs.begin()
    runs.send(message)
    wait_for(lambda: any("resolved" in line and "404" in line for line in running.lines))
    # The emulator redelivers without a backoff, so that the attempts may be used up by now.
    story = runs.make("trace", EVENT=message.message_id)[1]
    assert re.search("delivers it again by itself|keeps it among the dead letters", story)
    assert re.search(r"events waiting +unknown", runs.make("status")[1])

    interrupt(running)
    assert "Pub/Sub no longer has it" in runs.make("trace", EVENT=message.message_id)[1]
    runs.scan_later(item)
    runs.begin()

    status, story = runs.make("trace", EVENT=message.message_id)
    assert status == 1
    assert "Pub/Sub no longer has it" in story
    assert f"make replay EVENT={message.message_id} resolves it again from its receipt" in story
    assert runs.make("replay", EVENT=message.message_id)[0] == 0
    wait_for(lambda: runs.make("trace", EVENT=message.message_id)[0] == 0, "the event")


def test_a_scan_of_the_sandbox_is_still_in_its_api_after_a_restart(runs: Runs) -> None:
    item = catalogue.make_item(random.Random(), photos=0)
    interrupt(runs.begin())
    url, *_ = lines = (runs.folder / "sandbox-api.jsonl").read_text().splitlines()
    runs.scan_later(item)

    runs.begin()

    assert (runs.folder / "sandbox-api.jsonl").read_text().splitlines()[: len(lines)] == lines
    status, printed = runs.make("backfill", SINCE="2025-01-01")
    assert status == 0, printed
    assert (runs.folder / "items" / f"{item['_id']}.json").exists()
    assert url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("torn", ['{"_id": "67c8", "crea', '{"_id": "67c8"\n'])
def test_scans_of_a_run_that_was_killed_while_it_wrote_one(tmp_path: Path, torn: str) -> None:
    """A last line without its end is left out; a damaged one is named."""
    scans = SampleScans(tmp_path)
    item_id = scans.add()
    with (tmp_path / "sandbox-api.jsonl").open("a") as file:
        file.write(torn)

    if torn.endswith("\n"):
        with pytest.raises(UsageError, match=r"sandbox-api\.jsonl is damaged, delete it"):
            SampleScans(tmp_path)
    else:
        assert json.loads(SampleScans(tmp_path).api.body_of(item_id))["_id"] == item_id


def test_an_empty_file_of_scans_is_named(tmp_path: Path) -> None:
    (tmp_path / "sandbox-api.jsonl").touch()

    with pytest.raises(UsageError, match="is damaged, delete it"):
        SampleScans(tmp_path)


def test_an_event_that_only_the_queue_knows_is_not_called_unknown(tmp_path: Path) -> None:
    message = StoredMessage(1, 0, "2026-11-01T08:00:00Z", {"svix-id": "msg_1"}, b"{}")
    with closing(QueueFile(tmp_path / QUEUE_FILE)) as queue:
        queue.add([subscription_path(RESOLVE)], [message])

    status, printed = printed_by(trace.run, tmp_path, EVENT="msg_1")

    assert status == 1
    assert "Not resolved yet; it waits on disk" in printed


def test_a_queue_that_cannot_be_used_is_named_in_one_line(runs: Runs) -> None:
    (runs.folder / "pubsub.sqlite3").write_bytes(b"not a database " * 100)

    status, printed = runs.make_run()

    assert status == 2
    assert "pubsub.sqlite3, where events wait, cannot be used" in printed
    assert "Traceback" not in printed
    status, printed = runs.make("status")
    assert status == 1
    assert "Move it away to begin with an empty queue" in printed
