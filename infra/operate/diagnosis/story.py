"""The story of one event: what happened, its state, and what to do next."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from operate.console import count_of
from operate.installation import Instructions, LogLine, Place
from operate.times import shown_exactly, shown_text
from pipeline import unforeseen
from pipeline.store.receipts import Receipt
from pipeline.store.states import DISCARDED, EVENT, ITEMS_TOPIC, PENDING, is_settled

_SHOWN_ITEMS = 10
_FIRST_LINES, _LAST_LINES = 6, 14  # of a longer history


@dataclass(frozen=True)
class Evidence:
    """Everything known about one event.

    `api_knows_others` is whether the API knows any item with this key; it is asked for only where
    the event waits for unknown items.
    """

    event_id: str
    log_lines: Sequence[LogLine]
    receipt: Receipt | None
    place: Place
    api_knows_others: bool | None = None

    @property
    def is_known(self) -> bool:
        """Whether anything at all is known about the event."""
        return bool(self.log_lines or self.receipt or self.place.is_certain)


@dataclass(frozen=True)
class Story:
    """What happened in order, the event's state, and what to do next.

    `needs_person`: without a person the event will not be finished.
    """

    history: list[str]
    state: str
    next_step: str
    needs_person: bool


def tell(evidence: Evidence, instructions: Instructions) -> Story:
    """The story of an event."""
    lines = sorted(evidence.log_lines, key=lambda line: line.time)
    history = _collapsed([_history_line(line) for line in lines], evidence, instructions)
    if evidence.receipt:
        history += _receipt_lines(evidence.receipt)
    state, next_step, needs_person = _conclusion(evidence, instructions)
    return Story(history, state, next_step, needs_person)


def _collapsed(history: list[str], evidence: Evidence, instructions: Instructions) -> list[str]:
    """The beginning and the end of a long history."""
    left_out = len(history) - _FIRST_LINES - _LAST_LINES
    if left_out <= 1:
        return history
    logs = instructions.command("logs", EVENT=evidence.event_id, LAST="30d", LIMIT="1000")
    note = f"  ... {left_out} lines more: {logs}"
    return [*history[:_FIRST_LINES], note, *history[-_LAST_LINES:]]


def _history_line(line: LogLine) -> str:
    fields = line.fields
    time = shown_exactly(line.time)
    reason = f": {fields['reason']}" if fields.get("reason") else ""
    took = f", {fields['milliseconds']} ms" if "milliseconds" in fields else ""
    if line.function == "receive" and "status" in fields:
        size = f", {fields['bytes']:,} bytes" if "bytes" in fields else ""
        source = f", from {fields['source']}" if fields.get("source") else ""
        text = f"{fields['status']} {fields.get('outcome', '')}{size}{source}{took}{reason}"
        step = "received" if fields["status"] < 300 else "refused"
    elif line.function == "archive":
        step = "photos"
        text = f"{fields.get('outcome', '')} of {fields.get('item_id', '')}{took}{reason}"
    elif "item_id" in fields:
        step, text = "item", f"{fields['item_id']} {fields.get('state', '')}"
    elif "outcome" in fields:
        attempt = fields.get("attempt")
        items = f", {count_of(fields['items'], 'item')}" if "items" in fields else ""
        failed = f", {fields['failed']} of them not stored" if fields.get("failed") else ""
        step = f"attempt {attempt}" if attempt else "attempt"
        text = f"{fields['outcome']}{items}{failed}{took}{reason}"
    else:
        step, text = line.function, str(fields.get("message", ""))
    return f"{time}  {line.function:<9} {step:<10} {text}"


def _receipt_lines(receipt: Receipt) -> list[str]:
    redriven = ", re-driven from the dead letters" if receipt.redriven else ""
    head = (
        f"The receipt: {receipt.kind}, {receipt.outcome}, attempts {receipt.attempts}{redriven},"
        f" received {shown_text(receipt.received_at)}"
    )
    unsettled_first = sorted(receipt.items.items(), key=lambda item: is_settled(item[1]))
    shown = [
        f"  {name}  {state}" + (f" by {note}" if (note := receipt.discarded.get(name)) else "")
        for name, state in unsettled_first[:_SHOWN_ITEMS]
    ]
    if len(unsettled_first) > _SHOWN_ITEMS:
        shown.append(f"  and {len(unsettled_first) - _SHOWN_ITEMS} more")
    return [head, *shown]


def _conclusion(evidence: Evidence, instructions: Instructions) -> tuple[str, str, bool]:
    """The state, the next step, and whether it needs a person."""
    receipt = evidence.receipt
    if receipt and receipt.is_finished:
        return _finished(receipt)
    is_published = any(line.fields.get("outcome") == "published" for line in evidence.log_lines)
    is_kept = evidence.place.is_certain
    if receipt or is_published or is_kept or _failed_attempts(evidence.log_lines):
        return _unfinished(evidence, instructions)
    refusals = [line for line in evidence.log_lines if line.function == "receive"]
    if refusals:
        latest = max(refusals, key=lambda line: line.time)
        return _refused(latest.fields, instructions)
    state = (
        "Nothing is known about it: it was never received, or it was received before the period"
        " searched."
    )
    next_step = (
        "Look for it in the webhook dashboard: Resend sends it again, and Recover Failed Messages"
        " sends all that a disabled endpoint has missed."
        f" {instructions.command('backfill', SINCE='...')} stores what Dimmy has, with or without a"
        " webhook."
    )
    return state, next_step, True


def _finished(receipt: Receipt) -> tuple[str, str, bool]:
    if receipt.outcome == "unrecognised":
        state = "Kept: its body does not have the shape of a known event. The receipt contains it."
        return state, "Nothing, unless it should have been a known event.", False
    count = len(receipt.items)
    given_up = list(receipt.items.values()).count(DISCARDED)
    stored = f"Done: {count_of(count - given_up, 'item')} of {count} in storage"
    return f"{stored}{f', {given_up} discarded' if given_up else ''}.", "Nothing.", False


def _unfinished(evidence: Evidence, instructions: Instructions) -> tuple[str, str, bool]:
    receipt = evidence.receipt
    states = list(receipt.unsettled.values()) if receipt else []
    failed_attempts = _failed_attempts(evidence.log_lines)
    # While an attempt is running, the reason of the previous one is the best explanation.
    reasons = [receipt.items[EVENT]] if receipt and EVENT in receipt.items else []
    reasons += [state for state in states if state != PENDING]
    reasons += [str(line.fields["reason"]) for line in reversed(failed_attempts)]
    remedy, needs_person = remedy_of(reasons[0], instructions) if reasons else ("", False)
    if evidence.api_knows_others is not None:
        remedy = _remedy_for_unknown_items(evidence, instructions)
    missing = f"{count_of(len(states), 'item')} not stored yet" if states else "Not resolved yet"
    trace = instructions.command("trace", EVENT=evidence.event_id)
    redrive = instructions.command("redrive")
    run = instructions.command("run")
    wait = f"Wait; {instructions.command('status')} shows what else waits."
    match evidence.place:
        case Place.PUBSUB | Place.PROBABLY_PUBSUB:
            where = "Pub/Sub has it and delivers it again by itself"
            return f"{missing}; {where}.", remedy or wait, needs_person
        case Place.PUBSUB_OR_DEAD_LETTERS:
            where = "Pub/Sub delivers it again by itself, unless it is a dead letter"
            look = f"{trace} looks among the dead letters, too."
            return f"{missing}; {where}.", f"{remedy} {look}".strip(), needs_person
        case Place.NOWHERE:
            return f"{missing}; Pub/Sub no longer has it.", _recover(evidence, instructions), True
        case Place.DEAD_LETTERS:
            where, next_step = "Pub/Sub has given up and keeps it among the dead letters", redrive
        case Place.DEAD_LETTERS_ON_DISK:
            where = "it is among the dead letters, on disk"
            next_step = f"{run} and, in another terminal, {redrive}"
        case Place.DISK:
            where, next_step = f"it waits on disk, and `{run}` goes on with it", run
    return (
        f"{missing}; {where}.",
        f"{remedy} Then {next_step}." if remedy else f"{next_step}.",
        True,
    )


def _recover(evidence: Evidence, instructions: Instructions) -> str:
    """How an event is resolved that only its receipt or the sender still has."""
    if evidence.receipt:
        replay = instructions.command("replay", EVENT=evidence.event_id)
        return f"{replay} resolves it again from its receipt."
    return "Resend it in the webhook dashboard."


def _remedy_for_unknown_items(evidence: Evidence, instructions: Instructions) -> str:
    if evidence.api_knows_others:
        discard = instructions.command("discard", EVENT=evidence.event_id)
        return (
            "Dimmy's API knows other items of this account, so these have probably been deleted:"
            f" {discard} gives them up. If they were not, ask Dimmy."
        )
    change_key = instructions.change_secret("DIMMY_API_KEY")
    return (
        "Dimmy's API knows no items with this key: it belongs to another account, or DIMMY_API_URL"
        f" is wrong. With the key of the account that scanned them, {change_key}."
    )


def _failed_attempts(lines: Iterable[LogLine]) -> list[LogLine]:
    """The attempts of `resolve` that have failed, oldest first."""
    failed = [line for line in lines if line.function == "resolve" and line.fields.get("reason")]
    return sorted(failed, key=lambda line: line.time)


@dataclass(frozen=True)
class _Remedy:
    """What to do about states and reasons that match a regular expression at their beginning."""

    pattern: str
    needs_person: bool
    text: str


_REMEDIES = (
    _Remedy(
        "401",
        True,
        "Dimmy's API rejects the key: make a new one on the page Account & Limits of Dimmy's web"
        " app, and {change_api_key}.",
    ),
    _Remedy(
        "404, but",
        True,
        "Another program than Dimmy's API answers, such as a gateway: check DIMMY_API_URL.",
    ),
    _Remedy(
        "404",
        True,
        "Dimmy's API does not know the item, at least not with this key: does the key belong to the"
        " account that scanned it, and was the item deleted?",
    ),
    _Remedy(
        "422|malformed: not an item id",
        True,
        "Dimmy's API will never accept this id. Report to Dimmy which event it came in.",
    ),
    _Remedy(
        "malformed",
        True,
        "Dimmy's item cannot be stored as it is. Report to Dimmy which event it came in.",
    ),
    _Remedy(
        "429",
        False,
        "Dimmy's API limits the rate. If it goes on, lower DIMMY_CONCURRENCY; else wait.",
    ),
    _Remedy(
        r"5\d\d|timeout|connection|408",
        False,
        "Dimmy's API is down or cannot be reached: wait until it is back.",
    ),
    _Remedy(
        "storage|items/|events/|payloads/",
        True,
        "Storage refuses: {doctor} shows which permission or setting is wrong.",
    ),
    _Remedy(
        ITEMS_TOPIC,
        True,
        "The items are stored, but Pub/Sub does not accept them for the items topic: {doctor} shows"
        " what is missing.",
    ),
    _Remedy(
        "environment:",
        True,
        "The environment of the functions is wrong, not Dimmy's API: put that right, then"
        " {doctor}.",
    ),
    _Remedy(
        unforeseen.PREFIX,
        True,
        "The functions met an error that they do not know: the traceback in {logs} says which one."
        " If nothing is wrong in the environment, report it as a bug.",
    ),
)


def remedy_of(reason: str, instructions: Instructions) -> tuple[str, bool]:
    """What to do about a reason of `resolve`, and whether a person has to do it."""
    for remedy in _REMEDIES:
        # The reason of an attempt begins with the item's id.
        if re.match(rf"(?:[\w-]+: )?(?:{remedy.pattern})", reason):
            text = remedy.text.format(
                change_api_key=instructions.change_secret("DIMMY_API_KEY"),
                doctor=instructions.command("doctor"),
                logs=instructions.command("logs", SEVERITY="ERROR"),
            )
            return text, remedy.needs_person
    return "", False


def _refused(fields: Mapping[str, Any], instructions: Instructions) -> tuple[str, str, bool]:
    outcome = fields.get("outcome", "")
    state = f"Refused with {fields.get('status')}, {outcome}; the sender retries for 28 hours."
    recover = "Then Resend or Recover Failed Messages in the dashboard sends what was refused."
    if outcome == "signature_mismatch":
        next_step = (
            "The signing secret is not that of the endpoint: copy it from the webhook dashboard and"
            f" {instructions.change_secret('SIGNING_SECRETS')}. {recover}"
        )
    elif outcome == "timestamp_out_of_tolerance":
        next_step = (
            "The clock of the sender or of this machine is wrong, or someone replayed an old"
            f" request: {instructions.command('doctor')} compares the clocks. {recover}"
        )
    elif outcome == "source_not_allowed":
        next_step = (
            "Its source is not in ALLOWED_SOURCES, or TRUSTED_PROXY_HOPS does not match the number"
            f" of proxies in between. {recover}"
        )
    elif outcome == "unavailable":
        state = "Not accepted: Pub/Sub or storage was unavailable. The sender retries."
        doctor = instructions.command("doctor")
        next_step = f"{doctor} shows what is missing; the next try will be accepted."
    else:
        next_step = f"It was not sent by Svix, or is too large. {recover}"
    return state, next_step, True
