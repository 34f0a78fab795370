"""What happens, told to people: a readable line for each event and item, and tables."""

import json
import sys
import threading
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sandbox.catalogue import Item
from sandbox.svix_sender import Attempt, Message

_SENT, _REFUSED, _RECEIVED, _ITEM, _RESOLVED = "cyan", "red", "blue", "green", "magenta"
_SHOWN_ID = 12


def open_console() -> Console:
    """Standard output; a file or a pipe gets lines that are wide enough for the table."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


class Journal:
    """Prints lines as they come in, from any thread. Every value is treated as plain text."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._lock = threading.Lock()

    def sent(self, message: Message, what: str) -> None:
        """The sender is about to make an attempt."""
        self._line("sent", _SENT, message.message_id, what)

    def answered(self, message: Message, attempt: Attempt) -> None:
        """The sender's attempt was not accepted. (Where it was, `receive` has said so.)"""
        if not attempt.delivered:
            answer = f"{attempt.status or attempt.error} {_message_of(attempt.response)}"
            self._line("refused", _REFUSED, message.message_id, answer)

    def log(self, target: str, line: dict[str, Any]) -> None:
        """A log line of `receive` or `resolve`."""
        event_id = str(line.get("event_id", ""))
        reason = f": {line['reason']}" if "reason" in line else ""
        took = f" ({line['milliseconds']} ms)" if "milliseconds" in line else ""
        if line["message"] == "item":
            self._line("item", _ITEM, event_id, f"{line['item_id']} {line['state']}")
        elif target == "receive":
            size = f", {line['bytes']:,} bytes" if "bytes" in line else ""
            self._line("received", _RECEIVED, event_id, f"{line['outcome']}{size}{took}{reason}")
        else:
            items = f", {_count(line['items'])}" if line.get("items") else ""
            attempt = f", attempt {line['attempt']}" if (line.get("attempt") or 1) > 1 else ""
            said = f"{line['outcome']}{items}{attempt}{took}{reason}"
            self._line("resolved", _RESOLVED, event_id, said)

    def say(self, text: str, style: str = "") -> None:
        """A sentence of our own."""
        with self._lock:
            self.console.print(Text(text, style=style), soft_wrap=True)

    def _line(self, step: str, colour: str, event_id: str, text: str) -> None:
        time = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
        shown_id = event_id if len(event_id) <= _SHOWN_ID else f"…{event_id[-_SHOWN_ID + 1 :]}"
        plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
        line = Text.assemble(
            (f"{time}  ", "dim"), (f"{step:<9}", colour), (f"{shown_id:<13}", "dim"), plain
        )
        with self._lock:
            self.console.print(line, soft_wrap=True)


def item_table(lines: Iterable[bytes]) -> Table:
    """Stored items as people compare them: id, flow, barcode, dimensions, weight, photos."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("id", "flow", "barcode"):
        table.add_column(column, overflow="fold")
    for column in ("width x height x depth", "weight", "photos"):
        table.add_column(column, justify="right", overflow="fold")
    for line in lines:
        table.add_row(*(Text(cell) for cell in _cells(json.loads(line))))
    return table


def describe(content: Any) -> str:
    """An event in a few words."""
    if isinstance(content, dict) and isinstance(content.get("item_ids"), list):
        return f"items.scanned, {_count(len(content['item_ids']))}"
    if isinstance(content, dict) and "_id" in content:
        return "item.scanned.full_payload"
    return "something else"


def _count(items: int) -> str:
    return f"{items} item" if items == 1 else f"{items} items"


def _cells(item: Item) -> list[str]:
    size = _first(item, "dimensioning").get("dimensions", {})
    sides = " x ".join(str(size.get(side, "?")) for side in ("width", "height", "depth"))
    weight = _first(item, "weighing")
    photos = sum(len(step.get("photos", [])) for step in item.get("photographing", []))
    return [
        str(item.get("_id", "")),
        str(item.get("flow_id", "")),
        str(_first(item, "barcode_scanning").get("code", "-")),
        f"{sides} {size.get('unit', '')}".strip() if size else "-",
        f"{weight['weight']} {weight.get('unit', '')}".strip() if "weight" in weight else "-",
        str(photos or "-"),
    ]


def _first(item: Item, kind: str) -> Item:
    steps = item.get(kind) or [{}]
    return dict(steps[0])


def _message_of(response: str) -> str:
    try:
        return str(json.loads(response)["message"])
    except (ValueError, LookupError, TypeError):
        return response[:200]
