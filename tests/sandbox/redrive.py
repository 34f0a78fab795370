"""`make redrive`: the dead letters of a running `make run` go through `resolve` once more.

As in the cloud, nothing but the subscription's push endpoint is changed, and changed back. Exit
status 0 when no dead letter is left; 1 when some are; 2 when it could not begin.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from google.api_core.exceptions import ServiceUnavailable

from operate.console import open_console
from operate.dead_letters import Receipt, Say, redrive, show
from sandbox.environment import data_folder, read_settings, running_stack
from sandbox.pubsub_admin import PubSubAdmin, Pulled
from sandbox.stack import DEAD_LETTERS

PATIENCE_SECONDS = 15.0


class SandboxDeadLetters:
    """The dead-letter subscription of the sandbox's Pub/Sub."""

    pause_seconds = 0.1

    def __init__(self, admin: PubSubAdmin, resolve_url: str, folder: Path) -> None:
        self._admin = admin
        self._resolve_url = resolve_url
        self._folder = folder

    def look(self) -> set[str]:
        letters: list[Pulled] = []
        while batch := self._admin.pull(DEAD_LETTERS, count=1000, timeout=3):
            letters += batch
        if letters:
            self._admin.give_back(DEAD_LETTERS, letters)
        return {letter.attributes["svix-id"] for letter in letters}

    def receipts(self, event_ids: Iterable[str]) -> dict[str, Receipt]:
        paths = [self._folder / "events" / f"{event_id}.json" for event_id in event_ids]
        return {path.stem: json.loads(path.read_bytes()) for path in paths if path.exists()}

    def push(self) -> None:
        self._admin.modify_push_config(DEAD_LETTERS, self._resolve_url)

    def hold(self) -> None:
        self._admin.modify_push_config(DEAD_LETTERS, "")


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
        left = show_and_redrive(SandboxDeadLetters(admin, stack.resolve_url, folder), say)
    except ServiceUnavailable:
        say("The `make run` that was here has ended without saying so: start it again first.")
        return 2
    finally:
        admin.close()
    return 1 if left else 0


def show_and_redrive(
    letters: SandboxDeadLetters, say: Say, patience: float = PATIENCE_SECONDS
) -> set[str]:
    """Push what lies there to `resolve`; return the ids of the events that are left."""
    event_ids = show(letters, say)
    if not event_ids:
        return set()
    left = redrive(letters, event_ids, say, patience)
    say(f"{len(left)} are left.")
    return left


if __name__ == "__main__":
    sys.exit(main())
