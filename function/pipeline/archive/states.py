"""States of an item's photos, as log lines have them."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

STORED: Literal["stored"] = "stored"
PRESENT: Literal["present"] = "present"  # storage already had it
REFUSED = "refused:"  # before the reason why it can never be stored

StateKind = Literal["stored", "present", "waiting", "refused"]


def kind_of(state: str) -> StateKind:
    """The kind of a state. One that is not listed above is the reason why a photo waits."""
    if state in {STORED, PRESENT}:
        return STORED if state == STORED else PRESENT
    return "refused" if state.startswith(REFUSED) else "waiting"


def count_kinds(states: Iterable[str]) -> dict[str, int]:
    """How many photos are stored, present, waiting and refused."""
    counts = Counter(map(kind_of, states))
    return {kind: counts[kind] for kind in ("stored", "present", "waiting", "refused")}
