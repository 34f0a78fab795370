"""The events for the page: what their receipts, the log and Pub/Sub say of each."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from operate.console import count_of
from operate.installation import Installation, LogLine, LogQuery
from operate.signed_webhooks import name_of_event
from pipeline.store.receipts import Receipt

STATES = ("waiting", "partial", "dead letter", "refused", "unrecognised", "done")

_LAST = "1d"
_MAX_LINES = 500


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a row. Its id is empty if it had none; `text` is what a search looks at."""

    event_id: str
    name: str
    time: datetime
    states: tuple[str, ...]
    description: str
    text: str


class Sources(NamedTuple):
    """What is known about events besides their receipts; `dead_letters` is None if unknown."""

    published: Sequence[LogLine] = ()
    refused: Sequence[LogLine] = ()
    dead_letters: Collection[str] | None = ()


def read_sources(installation: Installation) -> Sources:
    """The log lines of the last day, and the dead letters.

    Raises:
        UsageError, CommandError: the installation cannot be read.
    """
    published = installation.log_lines(LogQuery(_LAST, _MAX_LINES, message="webhook published"))
    warnings = installation.log_lines(LogQuery(_LAST, _MAX_LINES, severity="WARNING"))
    refused = [
        line
        for line in warnings
        if line.function == "receive" and int(line.fields.get("status") or 0) >= 400
    ]
    return Sources(published, refused, installation.dead_letter_ids())


def list_events(receipts: Mapping[str, Receipt], sources: Sources) -> list[Event]:
    """All events, newest first."""
    dead = sources.dead_letters or ()
    events = [_of_receipt(receipt, dead) for receipt in receipts.values()]
    seen = set(receipts)
    for line in reversed(sources.published):
        event_id = str(line.fields.get("event_id", ""))
        if event_id not in seen:
            seen.add(event_id)
            description = f"accepted, {int(line.fields.get('bytes') or 0):,} bytes"
            events.append(_event(event_id, line.time, (_queue(event_id, dead),), description))
    for line in reversed(sources.refused):
        event_id = str(line.fields.get("event_id") or "")
        if not event_id or event_id not in seen:
            seen.add(event_id)
            reason = f": {line.fields['reason']}" if line.fields.get("reason") else ""
            description = f"{line.fields['status']} {line.fields.get('outcome', '')}{reason}"
            events.append(_event(event_id, line.time, ("refused",), description))
    return sorted(events, key=lambda event: (event.time, event.event_id), reverse=True)


def search(events: Iterable[Event], text: str, state: str, limit: int) -> tuple[list[Event], int]:
    """The events in a state, or in any, that contain all words: at most `limit`, and how many."""
    words = text.casefold().split()
    found = [
        event
        for event in events
        if (not state or state in event.states) and all(word in event.text for word in words)
    ]
    return found[:limit], len(found)


def _of_receipt(receipt: Receipt, dead_letters: Collection[str]) -> Event:
    states: tuple[str, ...] = (receipt.outcome,)
    if not receipt.is_finished:
        states = ("partial", _queue(receipt.event_id, dead_letters))
    items = f", {count_of(len(receipt.items), 'item')}" if receipt.items else ""
    missing = f", {len(receipt.unsettled)} not stored" if receipt.unsettled else ""
    reason = next(iter(receipt.unsettled.values()), "")
    description = f"{receipt.kind}{items}{missing}{f': {reason}' if reason else ''}"
    time = datetime.fromisoformat(receipt.received_at)
    return _event(receipt.event_id, time, states, description, receipt.items)


def _queue(event_id: str, dead_letters: Collection[str]) -> str:
    return "dead letter" if event_id in dead_letters else "waiting"


def _event(
    event_id: str,
    time: datetime,
    states: tuple[str, ...],
    description: str,
    item_ids: Iterable[str] = (),
) -> Event:
    text = "\n".join([event_id, *states, description, *item_ids]).casefold()
    name = name_of_event(event_id) if event_id else "without an id"
    return Event(event_id, name, time, states, description, text)
