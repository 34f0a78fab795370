"""`make redrive ENV=...`: the dead letters of an installation go through `resolve` once more."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from operate.cloud import Cloud, read_installation
from operate.console import CommandError, confirm, run
from operate.dead_letters import Receipt, Say, redrive, show

PATIENCE_SECONDS = 900.0  # longer than an attempt, and than the pause between two
_AT_A_TIME = 100  # of what stands on one command line
_PULLED = 1000


class CloudDeadLetters:
    """The dead-letter subscription of an installation, reached through gcloud."""

    def __init__(self, cloud: Cloud, outputs: dict[str, Any], pause_seconds: float) -> None:
        self.pause_seconds = pause_seconds
        self._cloud = cloud
        self._subscription = outputs["dead_letter_subscription"]
        self._resolve_url = outputs["functions"]["resolve"]["url"]
        self._pusher = outputs["pusher"]
        self._bucket = outputs["bucket"]

    def look(self) -> set[str]:
        pulled: dict[str, dict[str, Any]] = {}
        try:
            # A pull brings some of what there is; what it has brought stays away for a while.
            while batch := [one for one in self._pull() if _message_id(one) not in pulled]:
                pulled |= {_message_id(one): one for one in batch}
        finally:
            self._give_back([one["ackId"] for one in pulled.values()])
        return {_event_id(one["message"]) for one in pulled.values()}

    def receipts(self, event_ids: Iterable[str]) -> dict[str, Receipt]:
        names = [f"gs://{self._bucket}/events/{event_id}.json" for event_id in sorted(event_ids)]
        found: dict[str, Receipt] = {}
        for start in range(0, len(names), _AT_A_TIME):
            for receipt in _objects(self._cat(names[start : start + _AT_A_TIME])):
                found[receipt["event_id"]] = receipt
        return found

    def push(self) -> None:
        self._modify_push_config(
            f"--push-endpoint={self._resolve_url}",
            f"--push-auth-service-account={self._pusher}",
            f"--push-auth-token-audience={self._resolve_url}",
        )

    def hold(self) -> None:
        self._modify_push_config("--push-endpoint=")

    def _pull(self) -> list[dict[str, Any]]:
        printed = self._cloud.gcloud(
            "pubsub",
            "subscriptions",
            "pull",
            self._subscription,
            f"--limit={_PULLED}",
            "--format=json",
        )
        messages: list[dict[str, Any]] = json.loads(printed or "[]")
        return messages

    def _give_back(self, ack_ids: list[str]) -> None:
        for start in range(0, len(ack_ids), _AT_A_TIME):
            self._cloud.gcloud(
                "pubsub",
                "subscriptions",
                "modify-message-ack-deadline",
                self._subscription,
                f"--ack-ids={','.join(ack_ids[start : start + _AT_A_TIME])}",
                "--ack-deadline=0",
            )

    def _cat(self, names: list[str]) -> str:
        """The content of those objects that there are, one after the other."""
        try:
            return self._cloud.gcloud("storage", "cat", *names)
        except CommandError as error:
            if "matched no objects" not in str(error) and "404" not in str(error):
                raise
            if len(names) == 1:
                return ""
            middle = len(names) // 2
            return self._cat(names[:middle]) + self._cat(names[middle:])

    def _modify_push_config(self, *config: str) -> None:
        self._cloud.gcloud(
            "pubsub", "subscriptions", "modify-push-config", self._subscription, *config
        )


def main() -> int:
    return run(_redrive)


def _redrive(console: Console) -> int:
    cloud = Cloud(read_installation(os.environ))
    pause = float(os.environ.get("PAUSE_SECONDS", "10"))
    outputs = cloud.outputs()
    letters = CloudDeadLetters(cloud, outputs, pause)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    letters.hold()  # should a redrive before this one have been killed: only so can they be pulled
    event_ids = show(letters, say)
    if not event_ids:
        return _say_what_rests(cloud, outputs, say)
    confirm(console, os.environ, "Push them to resolve once more?")
    columns = (TextColumn("re-driven"), BarColumn(), TextColumn("{task.completed:.0f}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("", total=len(event_ids))
        left = redrive(
            letters,
            event_ids,
            say,
            float(os.environ.get("PATIENCE_SECONDS", PATIENCE_SECONDS)),
            lambda done: progress.update(bar, completed=done),
        )
    say(f"{len(left)} are left.")
    return 1 if left else 0


def _say_what_rests(cloud: Cloud, outputs: dict[str, Any], say: Say) -> int:
    """What was pushed or pulled a moment ago is not to be had for a while, but it is counted."""
    counted = cloud.metric("num_undelivered_messages", outputs["dead_letter_subscription"])
    if not counted:
        return 0
    say(
        f"Cloud Monitoring counted {counted:.0f} some minutes ago: they are done since, or rest"
        " before their next attempt. Try again in some minutes."
    )
    return 1


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that stand in a text, one after the other, whatever is between them."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        found, end = decoder.raw_decode(text, start)
        yield found
        start = text.find("{", end)


def _message_id(pulled: dict[str, Any]) -> str:
    return str(pulled["message"]["messageId"])


def _event_id(message: dict[str, Any]) -> str:
    """As `resolve` reads it: a message that was published by hand has no attribute."""
    attributes = message.get("attributes") or {}
    return str(attributes.get("svix-id") or message["messageId"])


if __name__ == "__main__":
    sys.exit(main())
