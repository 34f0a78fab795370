"""Re-driving dead letters: the same for the sandbox's Pub/Sub and for Google's.

Nothing but the subscription's push endpoint is changed, and changed back: meanwhile Pub/Sub pushes
the letters to `resolve`, acknowledges those that are finished and keeps the others.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

Receipt = Mapping[str, Any]
Say = Callable[[str], None]

_SHOWN = 20
_SETTLED = {"stored", "unchanged"}


class DeadLetters(Protocol):
    """A subscription to dead letters, and the receipts of what lies there."""

    pause_seconds: float  # between two looks at the receipts

    def look(self) -> set[str]:
        """The ids of the events whose letters can be had now. They stay where they are."""

    def receipts(self, event_ids: Iterable[str]) -> dict[str, Receipt]:
        """The receipts that there are of these events."""

    def push(self) -> None:
        """Let Pub/Sub push the letters to `resolve` from now on."""

    def hold(self) -> None:
        """Let the letters lie again."""


def show(letters: DeadLetters, say: Say) -> set[str]:
    """Say which events lie there, and why; return their ids."""
    event_ids = letters.look()
    receipts = letters.receipts(event_ids)
    for event_id in sorted(event_ids)[:_SHOWN]:
        say(f"  {event_id}  {_why(receipts.get(event_id))}")
    if len(event_ids) > _SHOWN:
        say(f"  and {len(event_ids) - _SHOWN} more. Of all of them:")
        reasons = Counter(_why(receipts.get(event_id)) for event_id in event_ids)
        for reason, count in reasons.most_common(_SHOWN):
            say(f"  {count:6}  {reason}")
    say(f"{len(event_ids)} dead letters were there.")
    return event_ids


def redrive(
    letters: DeadLetters,
    event_ids: set[str],
    say: Say,
    patience: float,
    progress: Callable[[int], None] = lambda _: None,
) -> set[str]:
    """Push until these events are finished, or none was for `patience` seconds; return the rest.

    `progress` is told how many are finished so far.
    """
    todo = set(event_ids)
    try:
        letters.push()
        give_up = time.monotonic() + patience
        while todo and time.monotonic() < give_up:
            time.sleep(letters.pause_seconds)
            now = letters.receipts(todo)
            done = {name for name in todo if _is_finished(now.get(name))}
            if done:
                todo -= done
                give_up = time.monotonic() + patience
                progress(len(event_ids) - len(todo))
    finally:
        letters.hold()
    receipts = letters.receipts(todo)
    for event_id in sorted(todo)[:_SHOWN]:
        say(f"  {event_id}  {_why(receipts.get(event_id))}")
    return todo


def _is_finished(receipt: Receipt | None) -> bool:
    return bool(receipt and receipt.get("redriven") and receipt["outcome"] != "partial")


def _why(receipt: Receipt | None) -> str:
    if receipt is None:
        return "no receipt"
    reasons = [state for state in receipt["items"].values() if state not in _SETTLED]
    return f"{receipt['outcome']}, {len(reasons)} items open" + (
        f": {reasons[0]}" if reasons else ""
    )
