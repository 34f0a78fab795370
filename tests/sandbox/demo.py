"""`make demo`: signed events travel the whole pipeline on this machine, and are all accounted for.

Exit status 0 when every item lies in storage exactly as the API has it; 1, with the reason, when
not; 2 when the demonstration could not begin.
"""

import functools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from operate.console import open_console
from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi, Fault
from sandbox.google_pubsub import MissingEmulatorError
from sandbox.journal import Journal, describe, item_table
from sandbox.processes import StartError
from sandbox.stack import Stack, new_secret, pubsub_kind, start_stack
from sandbox.svix_sender import Message, SvixSender, new_message

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".data"
PATIENCE_SECONDS = 45.0


def main() -> int:
    # A demonstration that is stopped takes what it has started with it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    FOLDER.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=FOLDER))
    journal = Journal(open_console(), folder)
    try:
        kind = pubsub_kind(os.environ)
        with start_stack(folder, pubsub=kind, on_log=journal.log) as stack:
            assert stack.api
            whose = "Google's emulator" if kind == "google" else "our own"
            journal.say(
                f"Up: receive, resolve, Pub/Sub ({whose}), Dimmy's API, and a folder as storage.\n"
            )
            problems = _demonstrate(stack, stack.api, journal)
    except (ValueError, MissingEmulatorError, StartError) as error:
        journal.say(str(error), "red")
        return 2
    except KeyboardInterrupt:
        journal.say("Stopped.")
        return 130
    for problem in problems:
        journal.say(problem, "red")
    if not problems:
        journal.say(f"Nothing was lost. Items and receipts: {folder.relative_to(ROOT)}/")
    return 1 if problems else 0


def _demonstrate(stack: Stack, api: DimmyApi, journal: Journal) -> list[str]:
    variety = random.Random(20261101)
    items = [catalogue.make_item(variety) for _ in range(8)]
    scanned = [api.put(item) for item in items]
    # In the API only to be compared with at the end: nobody will ask for these two.
    by_payload = [
        api.put(catalogue.VENDOR_EXAMPLE),
        api.put(catalogue.make_item(variety, photos=4)),
    ]

    journal.say("One scan, five scans at once, two full payloads:")
    messages = [
        _send(stack, journal, {"item_ids": scanned[:1]}),
        _send(stack, journal, {"item_ids": scanned[1:6]}),
        *(_send(stack, journal, json.loads(api.body_of(item_id))) for item_id in by_payload),
    ]
    problems = _wait_until_done(stack, messages)

    journal.say("\nThe API stumbles (503, then 429), and knows one item only a moment later (404):")
    api.fail(Fault(status=503, item_id=scanned[6], times=1))
    api.fail(Fault(status=429, retry_after="1", item_id=scanned[6], times=1))
    api.fail(Fault(status=404, item_id=scanned[7], times=1))
    problems += _wait_until_done(stack, [_send(stack, journal, {"item_ids": scanned[6:]})])

    journal.say("\nThe same event twice more, a test message, and a forgery:")
    for _ in range(2):
        _attempt(stack, journal, messages[0], "the first event again")
    messages.append(_send(stack, journal, {"success": True}))
    problems += _forge(stack, journal)
    problems += _wait_until_done(stack, messages)
    problems += _wait_for_attempts(stack, messages[0], 3)

    stored = {
        path.stem: path.read_bytes() for path in sorted((stack.folder / "items").glob("*.json"))
    }
    journal.console.print()
    journal.console.print(item_table(stored.values()))
    return problems + _compare(api, scanned + by_payload, stored)


def _send(stack: Stack, journal: Journal, content: Any) -> Message:
    message = new_message(content)
    _attempt(stack, journal, message, describe(content))
    return message


def _attempt(stack: Stack, journal: Journal, message: Message, what: str) -> None:
    journal.sent(message, what)
    journal.answered(message, stack.attempt(message))


def _forge(stack: Stack, journal: Journal) -> list[str]:
    """An event signed with another secret: it must be refused."""
    forged = new_message({"item_ids": ["000000000000000000000000"]})

    async def attempt() -> None:
        async with SvixSender(stack.sender.url, new_secret()) as forger:
            await forger.attempt(forged)

    journal.sent(forged, "items.scanned, signed with another secret")
    stack.background.run(attempt())
    journal.answered(forged, forged.attempts[-1])
    if forged.attempts[-1].status != 401:
        return [f"The forged event was answered {forged.attempts[-1].status} and not 401."]
    return []


def _wait_until_done(stack: Stack, messages: list[Message]) -> list[str]:
    """What is wrong with the messages' receipts after a while of patience."""
    problems = []
    for message in messages:
        if not message.delivered:
            problems.append(f"{message.message_id} was not accepted: {message.attempts[-1]}")
        elif not _in_time(functools.partial(_is_done, stack, message)):
            problems.append(f"{message.message_id} is not finished: {_receipt(stack, message)}")
    return problems


def _wait_for_attempts(stack: Stack, message: Message, count: int) -> list[str]:
    if _in_time(lambda: _receipt(stack, message).get("attempts") == count):
        return []
    return [f"{message.message_id} did not have {count} attempts: {_receipt(stack, message)}"]


def _in_time(condition: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def _is_done(stack: Stack, message: Message) -> bool:
    return _receipt(stack, message).get("outcome") in {"done", "unrecognised"}


def _receipt(stack: Stack, message: Message) -> dict[str, Any]:
    return stack.receipt(message.message_id) or {}


def _compare(api: DimmyApi, item_ids: list[str], stored: dict[str, bytes]) -> list[str]:
    problems = [f"Item {item_id} is lost." for item_id in item_ids if item_id not in stored]
    problems += [f"Item {item_id} came from nowhere." for item_id in stored.keys() - set(item_ids)]
    problems += [
        f"Item {item_id} is not what the API has."
        for item_id in item_ids
        if item_id in stored and stored[item_id] != api.body_of(item_id)
    ]
    return problems


if __name__ == "__main__":
    sys.exit(main())
