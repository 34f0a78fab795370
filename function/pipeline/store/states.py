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

_SETTLED = frozenset({STORED, UNCHANGED, DISCARDED})

ReasonClass = Literal["not_found", "api_key", "api", "storage", "malformed", "internal", "mixed"]


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
    if state.startswith("404:"):
        return "not_found"
    if state.startswith(("401:", "not tried: 401:")):
        return "api_key"
    if state.startswith("storage:"):
        return "storage"
    if state.startswith("malformed:"):
        return "malformed"
    if state.startswith(unforeseen.PREFIX):
        return "internal"
    return "api"
