"""States of an event's items, as receipts and log lines have them.

Any state that is not listed here is the reason why the item is not stored.
"""

from collections.abc import Iterable
from typing import Literal

from pipeline import unforeseen

STORED = "stored"
UNCHANGED = "unchanged"  # storage already had it, or a newer version
DISCARDED = "discarded"  # a person has given it up
PENDING = "pending"  # a long attempt has not come to it yet
EVENT = "(the event)"  # in place of an item's id: an attempt at the event has failed as a whole

ITEMS_TOPIC = "items topic:"  # before the reason why a stored item is not published
NOT_ADMITTED = "not admitted:"  # before the reason why an event has not been begun

_SETTLED = frozenset({STORED, UNCHANGED, DISCARDED})

ReasonClass = Literal[
    "not_found",
    "api_key",
    "api",
    "storage",
    "items_topic",
    "malformed",
    "memory",
    "internal",
    "mixed",
]


_CLASSES: dict[str, ReasonClass] = {
    "404:": "not_found",
    "401:": "api_key",
    "not tried: 401:": "api_key",
    "storage:": "storage",
    ITEMS_TOPIC: "items_topic",
    "malformed:": "malformed",
    NOT_ADMITTED: "memory",
    unforeseen.PREFIX: "internal",
}


def is_settled(state: str) -> bool:
    """Whether nothing is left to do for an item."""
    return state in _SETTLED


def reason_class(states: Iterable[str]) -> ReasonClass:
    """What keeps these items from being settled, in one word.

    `not_found` means that every one of them waits only because the API does not know it.
    """
    classes = {_reason_class(state) for state in set(states) if state != PENDING}
    return classes.pop() if len(classes) == 1 else "mixed"


def _reason_class(state: str) -> ReasonClass:
    return next((name for prefix, name in _CLASSES.items() if state.startswith(prefix)), "api")
