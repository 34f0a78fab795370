"""The drill: eight failures, one at a time. A command names cause and remedy; the remedy works.

Each test does what its person would do: look with `make trace` or `make doctor`, read what is to be
done, do just that, and look again.

One of them: .venv/bin/pytest tests/system/test_drill.py -k revoked
"""

import dataclasses
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
from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi, Fault
from sandbox.environment import announced
from sandbox.log_file import LogFile
from sandbox.secret_search import refuse_secrets
from sandbox.stack import SANDBOX_API_KEY, Stack, new_secret, start_stack
from sandbox.svix_sender import Message, SvixSender, new_message
from support.waiting import wait_for


@dataclasses.dataclass
class House:
    """A running pipeline, and a person with the commands."""

    stack: Stack
    settings: dict[str, str]
    said: str = ""

    @property
    def api(self) -> DimmyApi:
        assert self.stack.api
        return self.stack.api

    def scan(self) -> tuple[str, Message]:
        """A new item at Dimmy and the event that tells of it, not sent yet."""
        item_id = self.api.put(catalogue.make_item(Random()))
        return item_id, new_message({"item_ids": [item_id]})

    def make(self, command: str, **variables: str) -> int:
        """Type a command; return its exit status."""
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
        self.said = done.stdout + done.stderr
        refuse_secrets(command, [self.said], [SANDBOX_API_KEY])
        return done.returncode

    def trace(self, message: Message) -> int:
        return self.make("trace", EVENT=message.message_id)

    def wait_until_done(self, message: Message) -> None:
        wait_for(lambda: self._outcome(message) == "done", f"{message.message_id} to be done")
        assert self.trace(message) == 0, self.said
        assert "Done: 1 item of 1 in storage." in self.said

    def wait_until_partial(self, message: Message) -> None:
        def has_failed() -> bool:
            items = (self.stack.receipt(message.message_id) or {}).get("items", {})
            return self._outcome(message) == "partial" and "pending" not in items.values()

        wait_for(has_failed, "a failed attempt")

    def _outcome(self, message: Message) -> Any:
        return (self.stack.receipt(message.message_id) or {}).get("outcome")


@contextmanager
def house(folder: Path, max_delivery_attempts: int = 100) -> Iterator[House]:
    log_file = LogFile(folder)
    log_file.begin()
    with (
        start_stack(
            folder,
            on_log=log_file.add,
            backoff_seconds=(0.2, 0.5),
            max_delivery_attempts=max_delivery_attempts,
        ) as stack,
        announced(stack.running, folder),
    ):
        yield House(stack, {})


@pytest.fixture
def at_home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as running:
        yield running


def test_the_signing_secret_is_wrong(at_home: House) -> None:
    new = new_secret()
    item_id, message = at_home.scan()
    _send_signed_with(at_home, new, message)

    assert at_home.trace(message) == 1
    assert "401 signature_mismatch" in at_home.said
    assert "copy it from the webhook dashboard and set SIGNING_SECRETS in .env" in at_home.said

    at_home.stack.receive.kill()
    at_home.stack.receive.settings["SIGNING_SECRETS"] = new
    at_home.stack.receive.start()
    at_home.stack.receive.wait_until_up()
    _send_signed_with(at_home, new, message)  # Resend
    at_home.wait_until_done(message)
    assert at_home.stack.item(item_id)


def test_the_api_key_was_revoked(at_home: House) -> None:
    _, message = at_home.scan()
    at_home.api.key = "a-new-key-of-the-account"
    at_home.stack.attempt(message)
    at_home.wait_until_partial(message)

    assert at_home.trace(message) == 1
    assert "Dimmy's API rejects the key" in at_home.said
    assert "set DIMMY_API_KEY in .env" in at_home.said
    settings = {"DIMMY_API_URL": at_home.api.url, "SIGNING_SECRETS": new_secret()}
    assert at_home.make("doctor", DIMMY_API_KEY="the-revoked-key", **settings) == 1
    assert "rejects the key (401)" in at_home.said
    assert "the-revoked-key" not in at_home.said

    at_home.stack.resolve.kill()
    at_home.stack.resolve.settings["DIMMY_API_KEY"] = at_home.api.key
    at_home.stack.resolve.start()
    at_home.wait_until_done(message)
    assert at_home.make("doctor", DIMMY_API_KEY=at_home.api.key, **settings) == 0, at_home.said


def test_the_api_is_down(at_home: House) -> None:
    _, message = at_home.scan()
    at_home.api.fail(Fault(status=503))
    at_home.stack.attempt(message)
    at_home.wait_until_partial(message)

    assert at_home.trace(message) == 0, "nobody has to do anything"
    assert "Pub/Sub has it and delivers it again by itself." in at_home.said
    assert "Dimmy's API is down or cannot be reached: wait until it is back." in at_home.said

    at_home.api.mend()
    at_home.wait_until_done(message)


def test_an_event_lies_among_the_dead_letters(tmp_path: Path) -> None:
    with house(tmp_path, max_delivery_attempts=5) as at_home:
        item_id, message = at_home.scan()
        at_home.api.fail(Fault(status=404, item_id=item_id))
        at_home.stack.attempt(message)
        wait_for(
            lambda: at_home.trace(message) == 1 and "among the dead letters" in at_home.said,
            "a dead letter",
        )

        assert "Dimmy's API does not know the item" in at_home.said
        assert "make redrive" in at_home.said
        assert at_home.make("status") == 1
        assert re.search(r"dead letters +1 +make redrive", at_home.said)

        at_home.api.mend()
        assert at_home.make("redrive") == 0, at_home.said
        at_home.wait_until_done(message)
        assert "re-driven from the dead letters" in at_home.said
        assert at_home.make("status") == 0, at_home.said
        assert "1 in the last hour, 1 in the last day" in at_home.said


def test_pubsub_is_down(at_home: House) -> None:
    _, message = at_home.scan()
    at_home.stack.cut_pubsub()
    assert at_home.stack.attempt(message).status == 503

    assert at_home.trace(message) == 1
    assert "Pub/Sub or storage was unavailable. The sender retries." in at_home.said
    assert "make doctor" in at_home.said
    assert at_home.make("status") == 1
    assert f"make trace EVENT={message.message_id}" in at_home.said
    assert at_home.make("doctor") == 1
    assert "is refused with 503" in at_home.said

    at_home.stack.mend_pubsub()
    assert at_home.make("doctor") == 0, at_home.said
    at_home.stack.attempt(message)
    at_home.wait_until_done(message)


def test_storage_cannot_be_written_to(at_home: House) -> None:
    items = at_home.stack.folder / "items"
    items.write_text("in the way")  # permissions do not stop root, who may run the tests
    _, message = at_home.scan()
    at_home.stack.attempt(message)
    at_home.wait_until_partial(message)

    assert at_home.trace(message) == 1
    assert "Storage refuses: make doctor shows" in at_home.said
    assert at_home.make("doctor") == 1
    assert "Make the folder writable" in at_home.said

    items.unlink()
    assert at_home.make("doctor") == 0, at_home.said
    at_home.wait_until_done(message)


def test_the_endpoint_was_disabled_for_a_week(at_home: House) -> None:
    week_ago = (datetime.now(UTC).replace(tzinfo=None) - timedelta(days=6)).isoformat()
    item = catalogue.make_item(Random()) | {"created_at": week_ago, "updated_at": week_ago}
    item_id = at_home.api.put(item)

    assert at_home.make("trace", ITEM=item_id) == 1
    assert "No known event named" in at_home.said
    assert "`make backfill" in at_home.said

    since = (datetime.now(UTC) - timedelta(days=8)).date().isoformat()
    assert at_home.make("backfill", SINCE=since) == 0, at_home.said
    assert at_home.stack.item(item_id)


def test_the_clock_is_ten_minutes_off(at_home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    _, message = at_home.scan()
    with monkeypatch.context() as patch:
        patch.setattr("sandbox.svix_sender.datetime", _TenMinutesSlow)
        assert at_home.stack.attempt(message).status == 401

    assert at_home.trace(message) == 1
    assert "401 timestamp_out_of_tolerance" in at_home.said
    assert "The clock of the sender or of this machine is wrong" in at_home.said
    assert "make doctor compares the clock" in at_home.said
    assert at_home.make("doctor") == 0, at_home.said
    assert "the clock of the endpoint" in at_home.said

    at_home.stack.attempt(message)
    at_home.wait_until_done(message)


class _TenMinutesSlow(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) - timedelta(minutes=10)


def _send_signed_with(at_home: House, secret: str, message: Message) -> None:
    async def send() -> None:
        async with SvixSender(at_home.stack.sender.url, secret) as sender:
            await sender.attempt(message)

    at_home.stack.background.run(send())
