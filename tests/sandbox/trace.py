"""`make trace EVENT=msg_...` (or ITEM=...): what happened to an event of `make run`, and what next.

From its log, its receipts and, while it is up, its dead letters. Exit status 0 when nothing is left
to do; 1 when a person is needed; 2 when it could not begin.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.api_core.exceptions import ServiceUnavailable
from rich.console import Console

from operate.console import run
from operate.story import Known, Place, tell
from operate.trace import events_of, read_ids, show, show_events
from sandbox.environment import data_folder, read_settings, running_stack
from sandbox.log_file import LogFile
from sandbox.pubsub_admin import PubSubAdmin
from sandbox.redrive import SandboxDeadLetters

PLACE = Place("", is_cloud=False)


def main() -> int:
    return run(_trace)


def _trace(console: Console) -> int:
    event_id, item_id = read_ids(os.environ)
    folder = data_folder(read_settings())
    event_ids = [event_id]
    if item_id:
        event_ids = _events_with(item_id, folder)
        show_events(console, item_id, event_ids)
    is_open = False
    for each in event_ids:
        is_open |= show(console, each, tell(known_of(each, folder), PLACE))
    return 1 if is_open or not event_ids else 0


def known_of(event_id: str, folder: Path) -> Known:
    """All that a folder of `make run`, and the stack if it is up, know of an event."""
    lines = [x for x in LogFile(folder).lines() if x.fields.get("event_id") == event_id]
    receipt = _receipt(folder / "events" / f"{event_id}.json")
    finished = receipt is not None and receipt["outcome"] != "partial"
    return Known(event_id, lines, receipt, False if finished else _is_dead(event_id, folder))


def _events_with(item_id: str, folder: Path) -> list[str]:
    """The events that named an item, by the log and by the receipts."""
    receipts = sorted((folder / "events").glob("*.json"), key=lambda path: path.stat().st_mtime)
    named = [path.stem for path in receipts if item_id in (_receipt(path) or {}).get("items", {})]
    logged = (x for x in LogFile(folder).lines() if x.fields.get("item_id") == item_id)
    return list(dict.fromkeys([*events_of(logged), *named]))


def _is_dead(event_id: str, folder: Path) -> bool | None:
    stack = running_stack(folder)
    if stack is None:
        return None
    admin = PubSubAdmin(stack.pubsub_host)
    try:
        return event_id in SandboxDeadLetters(admin, stack.resolve_url, folder).look()
    except ServiceUnavailable:
        return None
    finally:
        admin.close()


def _receipt(path: Path) -> Mapping[str, Any] | None:
    try:
        receipt: Mapping[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return receipt


if __name__ == "__main__":
    sys.exit(main())
