"""The drill: one failure at a time. A command names cause and remedy; the remedy works.

Each test acts as an operator: it diagnoses the failure with `make trace` or `make doctor`, applies
the remedy that the command names, and checks again.

One of them: .venv/bin/pytest tests/system/test_drill.py -k revoked
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from operate.google.deployment import ROOT
from pipeline.layout import receipt_name
from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi, Fault
from sandbox.environment import announce
from sandbox.log_file import LogFile
from sandbox.secret_search import assert_no_secrets
from sandbox.stack import SANDBOX_API_KEY, Stack, new_secret, start_stack
from sandbox.svix_sender import Message, SvixSender, new_message
from support.waiting import wait_for


@dataclasses.dataclass
class Drill:
    """A running pipeline, and the commands on it."""

    stack: Stack
    settings: dict[str, str]
    output: str = ""

    @property
    def api(self) -> DimmyApi:
        assert self.stack.api
        return self.stack.api

    def scan(self) -> tuple[str, Message]:
        """Create an item in Dimmy's API; return its id and its event, which is not sent yet."""
        item_id = self.api.put(catalogue.make_item(Random()))
        return item_id, new_message({"item_ids": [item_id]})

    def make(self, command: str, **variables: str) -> int:
        """Run a command; return its exit status."""
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", command],
            env={name: v for name, v in os.environ.items() if name.startswith("COVERAGE")}
            | {"PATH": os.environ["PATH"], "DATA": str(self.stack.folder)}
            | {"PYTHONPATH": ":".join(str(ROOT / part) for part in ("function", "infra", "tests"))}
            | self.settings
            | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        self.output = done.stdout + done.stderr
        assert_no_secrets(command, [self.output], [SANDBOX_API_KEY])
        return done.returncode

    def trace(self, message: Message) -> int:
        return self.make("trace", EVENT=message.message_id)

    def wait_until_done(self, message: Message) -> None:
        wait_for(lambda: self._outcome(message) == "done", f"{message.message_id} to be done")
        assert self.trace(message) == 0, self.output
        assert "Done: 1 item of 1 in storage." in self.output

    def wait_until_partial(self, message: Message) -> None:
        def has_failed() -> bool:
            items = (self.stack.receipt(message.message_id) or {}).get("items", {})
            return self._outcome(message) == "partial" and "pending" not in items.values()

        wait_for(has_failed, "a failed attempt")

    def _outcome(self, message: Message) -> Any:
        return (self.stack.receipt(message.message_id) or {}).get("outcome")


@contextmanager
def start_drill(folder: Path, max_delivery_attempts: int = 100) -> Iterator[Drill]:
    log_file = LogFile(folder)
    log_file.prepare()
    with (
        start_stack(
            folder,
            on_log=log_file.add,
            # An event has attempts left while a person diagnoses the failure.
            backoff_seconds=(0.2, 5.0),
            max_delivery_attempts=max_delivery_attempts,
            keeps_messages=True,
        ) as stack,
        announce(stack.running, folder),
    ):
        yield Drill(stack, {})


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    with start_drill(tmp_path) as running:
        yield running


def test_a_wrong_signing_secret_is_diagnosed_and_solved(drill: Drill) -> None:
    new = new_secret()
    item_id, message = drill.scan()
    _send_signed_with(drill, new, message)

    assert drill.trace(message) == 1
    assert "401 signature_mismatch" in drill.output
    assert "copy it from the webhook dashboard and set SIGNING_SECRETS in .env" in drill.output
    assert drill.make("status") == 1
    assert "1 in the last day, signature_mismatch, the last at " in drill.output
    # Its own event is accepted, because it is signed with the secret that receive has.
    assert drill.make("doctor") == 1
    assert "are refused: 1 in the last day, signature_mismatch" in drill.output
    assert drill.make("doctor") == 1, "an accepted event of doctor says nothing"
    assert "1 to solve." in drill.output

    drill.stack.receive.kill()
    drill.stack.receive.settings["SIGNING_SECRETS"] = new
    drill.stack.receive.start()
    drill.stack.receive.wait_until_up()
    _send_signed_with(drill, new, message)  # Resend
    drill.wait_until_done(message)
    assert drill.stack.item(item_id)
    assert drill.make("status") == 0, drill.output
    drill.make("doctor")
    assert "are accepted; before that, refused: 1 in the last day" in drill.output


def test_a_revoked_api_key_is_diagnosed_and_solved(drill: Drill) -> None:
    _, message = drill.scan()
    drill.api.key = "a-new-key-of-the-account"
    drill.stack.attempt(message)
    drill.wait_until_partial(message)

    assert drill.trace(message) == 1
    assert "Dimmy's API rejects the key" in drill.output
    assert "set DIMMY_API_KEY in .env" in drill.output
    settings = {"DIMMY_API_URL": drill.api.url, "SIGNING_SECRETS": new_secret()}
    assert drill.make("doctor", DIMMY_API_KEY="the-revoked-key", **settings) == 1
    assert "rejects the key (401)" in drill.output
    assert "the-revoked-key" not in drill.output

    drill.stack.resolve.kill()
    drill.stack.resolve.settings["DIMMY_API_KEY"] = drill.api.key
    drill.stack.resolve.start()
    drill.wait_until_done(message)
    assert drill.make("doctor", DIMMY_API_KEY=drill.api.key, **settings) == 0, drill.output


def test_an_api_outage_is_diagnosed_and_solved(drill: Drill) -> None:
    _, message = drill.scan()
    drill.api.fail(Fault(status=503))
    drill.stack.attempt(message)
    drill.wait_until_partial(message)

    assert drill.trace(message) == 0, "no person is needed"
    assert "Pub/Sub has it and delivers it again by itself." in drill.output
    assert "Dimmy's API is down or cannot be reached: wait until it is back." in drill.output

    drill.api.clear_faults()
    drill.wait_until_done(message)


def test_a_dead_letter_is_diagnosed_and_solved(tmp_path: Path) -> None:
    with start_drill(tmp_path, max_delivery_attempts=5) as drill:
        item_id, message = drill.scan()
        drill.api.fail(Fault(status=404, item_id=item_id))
        drill.stack.attempt(message)
        wait_for(
            lambda: drill.trace(message) == 1 and "among the dead letters" in drill.output,
            "a dead letter",
        )

        assert "Dimmy's API knows other items of this account" in drill.output
        assert "make redrive" in drill.output
        assert drill.make("status") == 1
        assert re.search(r"dead letters +1 +make redrive", drill.output)

        drill.api.clear_faults()
        assert drill.make("redrive") == 0, drill.output
        drill.wait_until_done(message)
        assert "re-driven from the dead letters" in drill.output
        assert drill.make("status") == 0, drill.output
        assert "1 in the last hour, 1 in the last day" in drill.output


def test_a_deleted_item_is_diagnosed_and_discarded(drill: Drill) -> None:
    item_id, message = drill.scan()
    other_id = drill.api.put(catalogue.make_item(Random()))
    drill.api.delete(item_id)
    event = new_message({"item_ids": [item_id, other_id]})
    drill.stack.attempt(event)
    drill.wait_until_partial(event)

    assert drill.trace(event) == 1
    assert "Dimmy's API knows other items of this account" in drill.output
    assert f"make discard EVENT={event.message_id}" in drill.output
    assert drill.make("status") == 1
    assert re.search(r"waiting for unknown items +1 +make trace", drill.output)

    assert drill.make("discard", EVENT=event.message_id, ITEM=other_id) == 2
    assert f"There is nothing to give up: {other_id} is stored." in drill.output
    assert drill.make("discard", EVENT=message.message_id) == 2
    assert "has no receipt" in drill.output
    assert drill.make("discard", EVENT=event.message_id) == 0, drill.output
    receipt = drill.stack.receipt(event.message_id) or {}
    assert receipt["items"] == {item_id: "discarded", other_id: "stored"}
    assert receipt["payload"] == {"item_ids": [item_id, other_id]}
    assert drill.trace(event) == 0, drill.output
    assert f"discarded by {receipt['discarded'][item_id]}" in drill.output
    assert "Done: 1 item of 2 in storage, 1 discarded." in drill.output
    wait_for(lambda: drill.make("status") == 0, "a delivery that is acknowledged")


def test_an_api_key_of_another_account_is_diagnosed(drill: Drill) -> None:
    item_id, message = drill.scan()
    drill.api.delete(item_id)
    drill.stack.attempt(message)
    drill.wait_until_partial(message)

    assert drill.trace(message) == 1
    assert "Dimmy's API knows no items with this key" in drill.output
    assert "make discard" not in drill.output


def test_an_event_of_an_unknown_kind_is_resolved_once_an_upgrade_knows_it(drill: Drill) -> None:
    item = catalogue.make_item(Random())
    drill.api.put(item)
    message = new_message({"items": [item["_id"]]})
    drill.stack.attempt(message)
    wait_for(lambda: drill.stack.receipt(message.message_id), "the receipt")
    receipt_path = drill.stack.folder / receipt_name(message.message_id)
    assert json.loads(receipt_path.read_bytes())["outcome"] == "unrecognised"
    # The upgraded version would recognise this body.
    line = receipt_path.read_bytes().replace(b'"payload":{"items"', b'"payload":{"item_ids"')
    receipt_path.write_bytes(line)

    assert drill.make("replay", OUTCOME="done") == 0
    assert "0 events to resolve again." in drill.output
    assert drill.make("replay") == 2
    assert drill.make("replay", OUTCOME="unrecognised", SINCE="2026-01-01") == 0, drill.output
    assert "1 event to resolve again." in drill.output
    drill.wait_until_done(message)
    assert drill.stack.item(item["_id"])

    drill.api.put(catalogue.updated(item))
    assert drill.make("replay", EVENT=message.message_id) == 0, drill.output
    wait_for(lambda: drill.stack.item(item["_id"]) == drill.api.body_of(item["_id"]), "the update")


def test_missing_and_older_items_are_found_and_repaired(drill: Drill) -> None:
    items = [catalogue.make_item(Random()) for _ in range(5)]
    for number, item in enumerate(items):
        created = datetime(2026, 1, 1 + number % 2, 8, 0, number, tzinfo=UTC)
        item["created_at"] = created.replace(tzinfo=None).isoformat()
        item["_id"] = f"{int(created.timestamp()):08x}{item['_id'][8:]}"  # as an ObjectId
        drill.api.put(item)
    window = {"SINCE": "2026-01-01", "UNTIL": "2026-01-03"}
    assert drill.make("backfill", **window) == 0, drill.output
    assert drill.make("verify", **window) == 0, drill.output
    assert "Everything that the API lists is stored." in drill.output

    (drill.stack.folder / "items" / f"{items[0]['_id']}.json").unlink()
    drill.api.put(catalogue.updated(items[1]))
    drill.api.delete(items[2]["_id"])

    assert drill.make("verify", **window) == 1
    assert re.search(r"2026-01-01 +2 +1 +1 +0 +1", drill.output), drill.output
    assert re.search(r"2026-01-02 +2 +1 +0 +1 +0", drill.output), drill.output
    assert f"missing: {items[0]['_id']}" in drill.output
    assert f"The API no longer lists 1 item: {items[2]['_id']}" in drill.output
    assert "make verify SINCE=2026-01-01T00:00:00 UNTIL=2026-01-03T00:00:00 REPAIR=1" in (
        drill.output
    )

    assert drill.make("verify", **window, REPAIR="1") == 0, drill.output
    assert drill.stack.item(items[0]["_id"]) == drill.api.body_of(items[0]["_id"])
    assert drill.stack.item(items[1]["_id"]) == drill.api.body_of(items[1]["_id"])
    assert drill.stack.item(items[2]["_id"])


def test_an_api_without_any_item_is_not_taken_for_a_complete_one(drill: Drill) -> None:
    assert drill.make("verify", SINCE="2026-01-01", UNTIL="2026-01-02") == 1
    assert "lists no items at all" in drill.output
    assert drill.make("backfill", SINCE="2026-01-01", UNTIL="2026-01-02") == 1
    assert "warning: the API lists no items at all" in drill.output
    assert drill.make("status") == 1
    assert "lists no items at all" in drill.output


def test_a_pubsub_outage_is_diagnosed_and_solved(drill: Drill) -> None:
    _, message = drill.scan()
    drill.stack.cut_pubsub()
    assert drill.stack.attempt(message).status == 503

    assert drill.trace(message) == 1
    assert "Pub/Sub or storage was unavailable. The sender retries." in drill.output
    assert "make doctor" in drill.output
    assert drill.make("status") == 1
    assert f"make trace EVENT={message.message_id}" in drill.output
    assert drill.make("doctor") == 1
    assert "is refused with 503" in drill.output

    drill.stack.restore_pubsub()
    assert drill.make("doctor") == 0, drill.output
    drill.stack.attempt(message)
    drill.wait_until_done(message)


def test_unwritable_storage_is_diagnosed_and_solved(drill: Drill) -> None:
    items = drill.stack.folder / "items"
    items.write_text("not a folder")  # root, who may run the tests, ignores permissions
    _, message = drill.scan()
    drill.stack.attempt(message)
    drill.wait_until_partial(message)

    assert drill.trace(message) == 1
    assert "Storage refuses: make doctor shows" in drill.output
    assert drill.make("doctor") == 1
    assert "Make the folder writable" in drill.output

    items.unlink()
    assert drill.make("doctor") == 0, drill.output
    drill.wait_until_done(message)


def test_an_endpoint_disabled_for_a_week_is_diagnosed_and_solved(drill: Drill) -> None:
    week_ago = (datetime.now(UTC).replace(tzinfo=None) - timedelta(days=6)).isoformat()
    item = catalogue.make_item(Random()) | {"created_at": week_ago, "updated_at": week_ago}
    item_id = drill.api.put(item)

    assert drill.make("trace", ITEM=item_id) == 1
    assert "No known event named" in drill.output
    assert "`make backfill" in drill.output

    since = (datetime.now(UTC) - timedelta(days=8)).date().isoformat()
    assert drill.make("backfill", SINCE=since) == 0, drill.output
    assert drill.stack.item(item_id)


def test_a_clock_ten_minutes_slow_is_diagnosed_and_solved(
    drill: Drill, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, message = drill.scan()
    with monkeypatch.context() as patch:
        patch.setattr("sandbox.svix_sender.datetime", _TenMinutesSlow)
        assert drill.stack.attempt(message).status == 401

    assert drill.trace(message) == 1
    assert "401 timestamp_out_of_tolerance" in drill.output
    assert "The clock of the sender or of this machine is wrong" in drill.output
    assert "make doctor compares the clock" in drill.output
    assert drill.make("doctor") == 0, drill.output
    assert "the clock of the endpoint" in drill.output

    drill.stack.attempt(message)
    drill.wait_until_done(message)


class _TenMinutesSlow(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) - timedelta(minutes=10)


def _send_signed_with(drill: Drill, secret: str, message: Message) -> None:
    async def send() -> None:
        async with SvixSender(drill.stack.sender.url, secret) as sender:
            await sender.attempt(message)

    drill.stack.background.run(send())
