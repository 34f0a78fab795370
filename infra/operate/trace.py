"""`make trace ENV=... EVENT=msg_...` (or ITEM=...): what happened to an event, and what to do next.

From Cloud Logging (LAST=30d says how far back), the receipt in storage, and the dead letters. Exit
status 0 when nothing is left to do; 1 when a person is needed; 2 when it could not begin.
"""

import os
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Console

from operate.cloud import Cloud, read_installation
from operate.console import UsageError, run
from operate.logs import function_of, read_entries
from operate.redrive import CloudDeadLetters
from operate.story import Known, LogLine, Place, Story, tell

_MOST_LINES = "1000"
_MOST_EVENTS = 5


def main() -> int:
    return run(_trace)


def _trace(console: Console) -> int:
    where = read_installation(os.environ)
    event_id, item_id = read_ids(os.environ)
    last = os.environ.get("LAST") or "30d"
    if not re.fullmatch(r"\d+[smhd]", last):
        raise UsageError(f"LAST={last} is not a time such as 30m, 1h or 2d.")
    cloud = Cloud(where)
    place = Place(f" ENV={where.environment} PROJECT={where.project}", is_cloud=True)
    letters = CloudDeadLetters(cloud, cloud.outputs(), pause_seconds=0)
    event_ids = [event_id]
    if item_id:
        named = f'(jsonPayload.item_ids="{item_id}" OR jsonPayload.item_id="{item_id}")'
        entries = read_entries(cloud, [named], last, _MOST_LINES)
        event_ids = events_of(_log_line(entry) for entry in entries)
        show_events(console, item_id, event_ids)
    is_open = False
    for each in event_ids[-_MOST_EVENTS:]:
        named = f'jsonPayload.event_id="{each}"'
        lines = [_log_line(e) for e in read_entries(cloud, [named], last, _MOST_LINES)]
        receipt = letters.receipts([each]).get(each)
        finished = receipt is not None and receipt["outcome"] != "partial"
        is_dead = False if finished else each in letters.look()
        is_open |= show(console, each, tell(Known(each, lines, receipt, is_dead), place))
    return 1 if is_open or not event_ids else 0


def read_ids(environ: Mapping[str, str]) -> tuple[str, str]:
    """EVENT and ITEM, of which one is empty.

    Raises:
        UsageError: not just one of them is given, or it is no id.
    """
    event_id, item_id = environ.get("EVENT", ""), environ.get("ITEM", "")
    if bool(event_id) == bool(item_id):
        raise UsageError(
            "Name an event or an item: EVENT=msg_... (as the webhook dashboard shows it), or ITEM="
            " followed by the id of an item."
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", event_id or item_id):
        raise UsageError(f"{event_id or item_id} is no id: letters, digits, _ and - only.")
    return event_id, item_id


def show(console: Console, event_id: str, story: Story) -> bool:
    """Print a story; return whether it needs a person."""
    console.print(f"\n{event_id}", style="bold", markup=False)
    for line in story.happened:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    style = "red" if story.is_open else "green"
    console.print(f"  {story.stands}", style=style, markup=False, soft_wrap=True)
    console.print(f"  To do: {story.to_do}", markup=False, soft_wrap=True)
    return story.is_open


def show_events(console: Console, item_id: str, event_ids: list[str]) -> None:
    """Say in which events an item came."""
    if not event_ids:
        console.print(
            f"No event is known that named {item_id}: `make backfill` stores it if Dimmy has it.",
            markup=False,
            soft_wrap=True,
        )
    elif len(event_ids) > _MOST_EVENTS:
        console.print(f"{len(event_ids)} events named it; these are the last of them:")


def events_of(lines: Any) -> list[str]:
    """The ids of the events of some lines, each once, in order."""
    return list(dict.fromkeys(str(x.fields["event_id"]) for x in lines if "event_id" in x.fields))


def _log_line(entry: Mapping[str, Any]) -> LogLine:
    fields = entry.get("jsonPayload") or {"message": entry.get("textPayload", "")}
    fields = {name: _whole(value) for name, value in fields.items()}
    return LogLine(datetime.fromisoformat(entry["timestamp"]), function_of(entry), fields)


def _whole(value: Any) -> Any:
    """Cloud Logging keeps every number as a floating one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


if __name__ == "__main__":
    sys.exit(main())
