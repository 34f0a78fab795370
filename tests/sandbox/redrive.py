"""`make redrive`: the dead letters of a running `make run` go through `resolve` once more.

As in the cloud, nothing but the subscription's push endpoint is changed, and changed back. Exit
status 0 when no dead letter is left; 1 when some are; 2 when it could not begin.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.api_core.exceptions import ServiceUnavailable

from sandbox.environment import data_folder, read_settings, running_stack
from sandbox.journal import open_console
from sandbox.pubsub_admin import PubSubAdmin, Pulled
from sandbox.stack import DEAD_LETTERS

PATIENCE_SECONDS = 15.0


def main() -> int:
    console = open_console()

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    folder = data_folder(read_settings())
    stack = running_stack(folder)
    if stack is None:
        say("Nothing is up: start `make run` in another terminal first.")
        return 2
    admin = PubSubAdmin(stack.pubsub_host)
    try:
        left = redrive(admin, stack.resolve_url, folder, say)
    except ServiceUnavailable:
        say("The `make run` that was here has ended without saying so: start it again first.")
        return 2
    finally:
        admin.close()
    return 1 if left else 0


def redrive(
    admin: PubSubAdmin,
    resolve_url: str,
    folder: Path,
    say: Callable[[str], None],
    patience: float = PATIENCE_SECONDS,
) -> set[str]:
    """Push the dead letters to `resolve` until they are done, or none was for `patience` seconds.

    Returns the ids of the events that are left.
    """
    there = _look(admin, folder, say)
    say(f"{len(there)} dead letters were there.")
    if not there:
        return set()
    admin.modify_push_config(DEAD_LETTERS, resolve_url)
    try:
        _wait_until_done(folder, there, patience)
    finally:
        admin.modify_push_config(DEAD_LETTERS, "")
    left = _look(admin, folder, say)
    say(f"{len(left)} are left.")
    return left


def _look(admin: PubSubAdmin, folder: Path, say: Callable[[str], None]) -> set[str]:
    """The events whose letters can be had now, each said with its reason; they are given back."""
    letters: list[Pulled] = []
    while batch := admin.pull(DEAD_LETTERS, count=1000, timeout=3):
        letters += batch
    if letters:
        admin.give_back(DEAD_LETTERS, letters)
    event_ids = {letter.attributes["svix-id"] for letter in letters}
    for event_id in sorted(event_ids):
        say(f"  {event_id}  {_why(folder, event_id)}")
    return event_ids


def _wait_until_done(folder: Path, event_ids: set[str], patience: float) -> None:
    todo = set(event_ids)
    give_up = time.monotonic() + patience
    while todo and time.monotonic() < give_up:
        done = {event_id for event_id in todo if _is_done(_receipt(folder, event_id))}
        if done:
            todo -= done
            give_up = time.monotonic() + patience
        time.sleep(0.1)


def _is_done(receipt: dict[str, Any]) -> bool:
    return bool(receipt.get("redriven")) and receipt.get("outcome") in {"done", "unrecognised"}


def _why(folder: Path, event_id: str) -> str:
    receipt = _receipt(folder, event_id)
    if not receipt:
        return "no receipt"
    failed = [why for why in receipt["items"].values() if why not in {"stored", "unchanged"}]
    return f"{receipt['outcome']}, {len(failed)} items open: {failed[0] if failed else ''}"


def _receipt(folder: Path, event_id: str) -> dict[str, Any]:
    try:
        receipt: dict[str, Any] = json.loads((folder / "events" / f"{event_id}.json").read_bytes())
    except FileNotFoundError:
        return {}
    return receipt


if __name__ == "__main__":
    sys.exit(main())
