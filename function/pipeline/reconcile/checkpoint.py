"""How far the reconcile of a window is, so that the next one goes on from there.

A window is read in slices of creation time. A slice that does not fit into an attempt is made
shorter, and longer again after those that do, so that some attempts finish a window of any length.
"""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pipeline.json_text import NotJsonError, read_json
from pipeline.reconcile.window import Window
from pipeline.store.items import is_item_id
from pipeline.store.store import Store

LONGEST_SLICE = timedelta(days=1)
SHORTEST_SLICE = timedelta(seconds=1)
# After this time a window is listed from its start again: items of the finished part may have been
# added or edited since. A long window takes several scheduled runs, and has more time until its end
# is reached.
SHORTEST_USE = timedelta(hours=6)
USE_SHARE = 0.1  # of the window's length

_MAX_SECONDS = 10 * 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that was created before `reached` is done, but for what has failed.

    `started_at` is when the first of the runs began. `failed` are the items that could not be
    stored, `malformed` is the number of those that never can. The next slice has `slice_length`.
    `is_listed`: one of the runs has reached the end of the window.
    """

    started_at: datetime
    reached: datetime
    slice_length: timedelta = LONGEST_SLICE
    failed: tuple[str, ...] = ()
    malformed: int = 0
    is_listed: bool = False

    def after_slice(self, end: datetime) -> "Checkpoint":
        """The next slice: a longer one, because this one was short enough."""
        return replace(self, reached=end, slice_length=min(self.slice_length * 2, LONGEST_SLICE))

    def shortened(self, window: Window) -> "Checkpoint":
        """The same place with a shorter slice."""
        length = min(self.slice_length, window.end - self.reached)
        return replace(self, slice_length=max(length / 4, SHORTEST_SLICE))

    @classmethod
    def read(cls, store: Store, window: Window) -> "Checkpoint":
        """The checkpoint to go on from: the stored one of this window, or its start.

        From the start, items that have failed are still tried again: the window of a schedule may
        have moved past them.

        Raises:
            StorageError: storage cannot be read.
        """
        now = datetime.now(UTC)
        start = cls(now, window.start)
        content = None if window.fresh else store.get_checkpoint(window.name)
        if content is None:
            return start
        try:
            stored = _from_json(read_json(content))
        except (NotJsonError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
            return start
        share = 0.0 if stored.is_listed else USE_SHARE
        usable = max(SHORTEST_USE, (window.end - window.start) * share)
        # The window of a schedule moves on while one of its runs is unfinished.
        is_inside = window.start <= stored.reached <= window.end
        if is_inside and now - stored.started_at < usable:
            return stored
        return replace(start, failed=stored.failed)

    def write(self, store: Store, window: Window) -> None:
        """Store it.

        Raises:
            StorageError: it cannot be stored.
        """
        value = {
            "started_at": self.started_at.isoformat(),
            "reached": self.reached.isoformat(),
            "slice_seconds": self.slice_length.total_seconds(),
            "failed": list(self.failed),
            "malformed": self.malformed,
            "is_listed": self.is_listed or self.reached >= window.end,
        }
        store.put_checkpoint(window.name, json.dumps(value).encode())


def _from_json(value: dict[str, object]) -> Checkpoint:
    length = timedelta(seconds=min(float(str(value["slice_seconds"])), _MAX_SECONDS))
    failed = value["failed"]
    if not isinstance(failed, list):
        raise TypeError("failed is not a list")
    return Checkpoint(
        started_at=datetime.fromisoformat(str(value["started_at"])).astimezone(UTC),
        reached=datetime.fromisoformat(str(value["reached"])).astimezone(UTC),
        slice_length=min(max(length, SHORTEST_SLICE), LONGEST_SLICE),
        failed=tuple(str(each) for each in failed if is_item_id(each)),
        malformed=int(str(value["malformed"])),
        is_listed=value.get("is_listed") is True,  # earlier versions did not write it
    )
