"""The events for the page: what their receipts, the log and Pub/Sub say of each."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from operate.console import count_of
from operate.installation import Installation, LogLine, LogQuery, Place, QueuedEvent
from operate.signed_webhooks import name_of_event
from pipeline.store.receipts import Receipt
from pipeline.store.timestamps import read_timestamp

STATES = ("waiting", "partial", "dead letter", "refused", "unrecognised", "done")

_LAST = "1d"
_MAX_LINES = 500
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_DEAD = {Place.DEAD_LETTERS, Place.DEAD_LETTERS_ON_DISK}


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a row. Its id is empty if it had none.

    `matches` are the states under which it is found; where Pub/Sub does not say what waits, they
    include those that it may have. A search looks at `text` and, for whole ids, at `items`.
    """

    event_id: str
    name: str
    time: datetime
    states: tuple[str, ...]
    matches: Collection[str]
    description: str
    text: str
    items: Collection[str] = field(default=(), repr=False)


@dataclass(frozen=True)
class Sources:
    """What is known about events besides their receipts; `queue` is None if unknown."""

    published: Sequence[LogLine]
    refused: Sequence[LogLine]
    queue: Mapping[str, QueuedEvent] | None


@dataclass(frozen=True)
class Receipts:
    """The receipts that were read. Those of all events from `since` on are included."""

    receipts: Mapping[str, Receipt] = field(default_factory=dict)
    since: datetime | None = None


def read_sources(installation: Installation) -> Sources:
    """The log lines of the last day, and what waits.

    Raises:
        UsageError, CommandError: the installation cannot be read.
    """
    published = installation.log_lines(LogQuery(_LAST, _MAX_LINES, message="webhook published"))
    warnings = installation.log_lines(
        LogQuery(_LAST, _MAX_LINES, severity="WARNING", function="receive")
    )
    refused = [line for line in warnings if int(line.fields.get("status") or 0) >= 400]
    return Sources(published, refused, installation.queued_events())


class EventList:
    """All known events. Rows of receipts that have not changed are kept."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Receipt, str, Event]] = {}

    def of(self, read: Receipts, sources: Sources) -> list[Event]:
        """The events, newest first."""
        rows = {}
        for event_id, receipt in read.receipts.items():
            queue = _state_in_queue(event_id, sources.queue)
            kept = self._rows.get(event_id)
            if kept and kept[0] is receipt and kept[1] == queue:
                rows[event_id] = kept
            else:
                rows[event_id] = (receipt, queue, _of_receipt(receipt, queue))
        self._rows = rows
        events = [event for _, _, event in rows.values()]
        events += _without_receipt(read, sources)
        return sorted(events, key=lambda event: (event.time, event.event_id), reverse=True)


def search(events: Iterable[Event], text: str, state: str, limit: int) -> tuple[list[Event], int]:
    """The events in a state, or in any, that contain all words: at most `limit`, and how many."""
    words = text.split()
    found = [
        event
        for event in events
        if (not state or state in event.matches)
        and all(word.casefold() in event.text or word in event.items for word in words)
    ]
    return found[:limit], len(found)


def _without_receipt(read: Receipts, sources: Sources) -> list[Event]:
    seen = set(read.receipts)
    events = []
    for event_id, queued in (sources.queue or {}).items():
        if event_id not in seen:
            seen.add(event_id)
            state = "dead letter" if queued.place in _DEAD else "waiting"
            events.append(_event(event_id, queued.published_at, (state,), "no receipt yet"))
    for line in reversed(sources.published):
        event_id = str(line.fields.get("event_id", ""))
        # Where the queue is known, an event that is not in it has a receipt that was not read.
        is_within = sources.queue is None and (read.since is None or line.time >= read.since)
        if event_id not in seen and is_within:
            description = f"accepted, {int(line.fields.get('bytes') or 0):,} bytes, no receipt yet"
            events.append(_event(event_id, line.time, ("waiting",), description))
        seen.add(event_id)
    for line in reversed(sources.refused):
        event_id = str(line.fields.get("event_id") or "")
        if not event_id or event_id not in seen:
            seen.add(event_id)
            reason = f": {line.fields['reason']}" if line.fields.get("reason") else ""
            description = f"{line.fields['status']} {line.fields.get('outcome', '')}{reason}"
            events.append(_event(event_id, line.time, ("refused",), description))
    return events


def _state_in_queue(event_id: str, queue: Mapping[str, QueuedEvent] | None) -> str:
    """`waiting`, `dead letter`, `unknown`, or nothing for an event that Pub/Sub does not have."""
    if queue is None:
        return "unknown"
    if event_id not in queue:
        return ""
    return "dead letter" if queue[event_id].place in _DEAD else "waiting"


def _of_receipt(receipt: Receipt, queue: str) -> Event:
    states: tuple[str, ...] = (receipt.outcome,)
    matches: Collection[str] = states
    missing = ""
    if not receipt.is_finished:
        states = ("partial",) if queue in {"", "unknown"} else ("partial", queue)
        matches = ("partial", "waiting", "dead letter") if queue == "unknown" else states
        unsettled = receipt.iterate_unsettled()
        _, state = next(unsettled)
        missing = f", {1 + sum(1 for _ in unsettled):,} not stored: {state}"
    items = f", {count_of(len(receipt.items), 'item')}" if receipt.items else ""
    received_at = read_timestamp(receipt.received_at)
    event = _event(
        receipt.event_id,
        received_at.datetime if received_at else _LONG_AGO,
        states,
        f"{receipt.kind}{items}{missing}",
    )
    return replace(event, matches=matches, items=receipt.items)


def _event(event_id: str, time: datetime, states: tuple[str, ...], description: str) -> Event:
    name = name_of_event(event_id) if event_id else "without an id"
    text = "\n".join([event_id, *states, description]).casefold()
    return Event(event_id, name, time, states, states, description, text)
