"""Prints the activity of the pipeline: a readable line for each event and item, and tables."""

import json
import threading
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sandbox.svix_sender import Attempt, Message

_SENT, _REFUSED, _RECEIVED, _ITEM, _RESOLVED = "cyan", "red", "blue", "green", "magenta"
_ID_WIDTH = 32  # of the longest id that Svix makes, and a space
_PHOTO_KINDS = ("stored", "present", "waiting", "refused")


# What is wrong where the sender's webhooks are refused. The sender gets a longer text.
_HINTS = {
    "signature_mismatch": ": SIGNING_SECRETS has the secret of another endpoint",
    "timestamp_out_of_tolerance": ": a clock is wrong, or the webhook is an old one",
    "source_not_allowed": ": ALLOWED_SOURCES does not include its address",
}


class Journal:
    """Prints lines. Safe to call from any thread. Every value is printed as plain text."""

    def __init__(self, console: Console, storage: Path) -> None:
        self.console = console
        self._storage = storage
        self._lock = threading.Lock()

    def sent(self, message: Message, description: str) -> None:
        """Print that the sender starts an attempt."""
        self._line("sent", _SENT, message.message_id, description)

    def answered(self, message: Message, attempt: Attempt) -> None:
        """Print the response to a failed attempt. `receive` logs the accepted ones itself."""
        if not attempt.delivered:
            answer = f"{attempt.status or attempt.error} {_message_of(attempt.response)}"
            self._line("refused", _REFUSED, message.message_id, answer)

    def log(self, target: str, line: dict[str, Any]) -> None:
        """Print a log line of a function."""
        event_id = str(line.get("event_id", ""))
        reason = f": {line['reason']}" if "reason" in line else ""
        took = f" ({line['milliseconds']} ms)" if "milliseconds" in line else ""
        if line["message"] == "item":
            text = f"{line['item_id']} {line['state']}{self._summary_of(line)}"
            self._line("item", _ITEM, event_id, text)
        elif target == "archive":
            self._log_photos(event_id, line, f"{took}{reason}")
        elif target == "receive" and line.get("status", 0) >= 400:
            hint = _HINTS.get(line["outcome"], "")
            text = f"{line['status']} {line['outcome']}{reason}{hint}"
            self._line("refused", _REFUSED, event_id, text)
        elif target == "receive":
            size = f", {line['bytes']:,} bytes" if "bytes" in line else ""
            self._line("received", _RECEIVED, event_id, f"{line['outcome']}{size}{took}{reason}")
        else:
            items = f", {_count(line['items'])}" if line.get("items") else ""
            attempt = f", attempt {line['attempt']}" if (line.get("attempt") or 1) > 1 else ""
            text = f"{line['outcome']}{items}{attempt}{took}{reason}"
            self._line("resolved", _RESOLVED, event_id, text)

    def _log_photos(self, event_id: str, line: dict[str, Any], ending: str) -> None:
        """Print the line of an attempt at an item; not those of its photos."""
        if line["message"] != "photo":
            counts = [f"{line[kind]} {kind}" for kind in _PHOTO_KINDS if line.get(kind)]
            text = f"{line.get('item_id', '')} {line['outcome']} {', '.join(counts)}".rstrip()
            self._line("photos", _ITEM, event_id, f"{text}{ending}")

    def print_text(self, text: str, style: str = "") -> None:
        """Print a text that belongs to no event."""
        with self._lock:
            self._print(Text(text, style=style))

    def _summary_of(self, line: dict[str, Any]) -> str:
        """A short description of the stored item; empty if it is not in storage."""
        if line["state"] not in {"stored", "unchanged"}:
            return ""
        stored = self._storage / "items" / f"{line['item_id']}.json"
        _, *cells, photos = _cells(json.loads(stored.read_bytes()))
        present = [cell for cell in cells if cell != "-"]
        present += [] if photos == "-" else [f"{photos} photo{'s' * (photos != '1')}"]
        return f": {', '.join(present)}" if present else ""

    def _line(self, step: str, colour: str, event_id: str, text: str) -> None:
        time = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
        line = Text.assemble(
            (f"{time}  ", "dim"),
            (f"{step:<9}", colour),
            (f"{as_plain_text(event_id):<{_ID_WIDTH}}", "dim"),
            as_plain_text(text),
        )
        with self._lock:
            self._print(line)

    def _print(self, text: Text) -> None:
        """Wrap lines between words on a terminal; never wrap them in a file."""
        self.console.print(text, soft_wrap=not self.console.is_terminal)


def item_table(lines: Iterable[bytes]) -> Table:
    """A table of stored items: id, flow, barcode, dimensions, weight, number of photos."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("id", "flow", "barcode"):
        table.add_column(column, overflow="fold")
    for column in ("width x height x depth", "weight", "photos"):
        table.add_column(column, justify="right", overflow="fold")
    for line in lines:
        table.add_row(*(Text(cell) for cell in _cells(json.loads(line))))
    return table


def describe(content: Any) -> str:
    """A short description of an event."""
    if isinstance(content, dict) and isinstance(content.get("item_ids"), list):
        return f"items.scanned, {_count(len(content['item_ids']))}"
    if isinstance(content, dict) and "_id" in content:
        return "item.scanned.full_payload"
    return "unrecognised"


def _count(items: int) -> str:
    return f"{items} item" if items == 1 else f"{items} items"


def _cells(item: Any) -> list[str]:
    """The columns of an item, which may be any JSON value; `-` where a value is missing."""
    item = item if isinstance(item, dict) else {}
    barcode, dimensioning, weighing = (
        next(iter(_steps(item.get(kind))), {})
        for kind in ("barcode_scanning", "dimensioning", "weighing")
    )
    size = dimensioning.get("dimensions")
    photos = sum(len(_steps(step.get("photos"))) for step in _steps(item.get("photographing")))
    return [
        _shown(item.get("_id")),
        _shown(item.get("flow_id")),
        _shown(barcode.get("code")),
        _size(size) if isinstance(size, dict) else "-",
        _with_unit(_shown(weighing.get("weight")), weighing),
        str(photos or "-"),
    ]


def _steps(value: object) -> list[dict[str, Any]]:
    return [step for step in value if isinstance(step, dict)] if isinstance(value, list) else []


def _size(size: dict[str, Any]) -> str:
    sides = " x ".join(_shown(size.get(side)) for side in ("width", "height", "depth"))
    return _with_unit(sides, size)


def _with_unit(number: str, step: dict[str, Any]) -> str:
    return number if number == "-" or "unit" not in step else f"{number} {_shown(step['unit'])}"


def _shown(value: object) -> str:
    return "-" if value is None else as_plain_text(str(value))


def as_plain_text(text: str) -> str:
    """The text without control characters, which a terminal would execute."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _message_of(response: str) -> str:
    try:
        return str(json.loads(response)["message"])
    except (ValueError, LookupError, TypeError):
        return response[:200]
