"""The story of one event, from log lines, the receipt and the dead letters, and what to do next.

The same for an installation in Google Cloud and for the sandbox, which find the pieces in different
places.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_SETTLED = {"stored", "unchanged"}
_SHOWN_ITEMS = 10


@dataclass(frozen=True)
class LogLine:
    """One line that a function has logged."""

    time: datetime
    function: str  # receive, resolve or reconcile
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where the functions run, and so how its commands and settings are written."""

    suffix: str  # what follows each command, such as " ENV=dev PROJECT=warehouse-1"
    is_cloud: bool

    def command(self, name: str, *, before: str = "") -> str:
        """A command as it is typed."""
        return f"make {name}{before}{self.suffix}"

    def set_secret(self, setting: str) -> str:
        """How another value of a secret gets there."""
        if self.is_cloud:
            return f"{self.command('secrets')}, then {self.command('deploy')}"
        return f"set {setting} in .env and start `make run` again"


@dataclass(frozen=True)
class Known:
    """All that can be found of one event. `is_dead` is None where it cannot be told."""

    event_id: str
    lines: Sequence[LogLine]
    receipt: Mapping[str, Any] | None
    is_dead: bool | None


@dataclass(frozen=True)
class Story:
    """What happened in order, how it stands, and what to do; `is_open` where a person is needed."""

    happened: list[str]
    stands: str
    to_do: str
    is_open: bool


def tell(known: Known, place: Place) -> Story:
    """The story of an event."""
    happened = [_happened(line) for line in sorted(known.lines, key=lambda line: line.time)]
    if known.receipt:
        happened += _stored(known.receipt)
    stands, to_do, is_open = _how_it_stands(known, place)
    return Story(happened, stands, to_do, is_open)


def _happened(line: LogLine) -> str:
    fields = line.fields
    when = line.time.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    reason = f": {fields['reason']}" if fields.get("reason") else ""
    took = f", {fields['milliseconds']} ms" if "milliseconds" in fields else ""
    if line.function == "receive" and "status" in fields:
        size = f", {fields['bytes']:,} bytes" if "bytes" in fields else ""
        source = f", from {fields['source']}" if fields.get("source") else ""
        said = f"{fields['status']} {fields.get('outcome', '')}{size}{source}{took}{reason}"
        step = "received" if fields["status"] < 300 else "refused"
    elif "item_id" in fields:
        step, said = "item", f"{fields['item_id']} {fields.get('state', '')}"
    elif "outcome" in fields:
        attempt = fields.get("attempt")
        items = f", {fields['items']} items" if "items" in fields else ""
        failed = f", {fields['failed']} of them not stored" if fields.get("failed") else ""
        step = f"attempt {attempt}" if attempt else "attempt"
        said = f"{fields['outcome']}{items}{failed}{took}{reason}"
    else:
        step, said = line.function, str(fields.get("message", ""))
    return f"{when}  {line.function:<9} {step:<10} {said}"


def _stored(receipt: Mapping[str, Any]) -> list[str]:
    items: Mapping[str, str] = receipt["items"]
    again = ", re-driven from the dead letters" if receipt.get("redriven") else ""
    head = (
        f"The receipt: {receipt['kind']}, {receipt['outcome']}, attempts {receipt['attempts']}"
        f"{again}, received {receipt['received_at']}"
    )
    # What is open comes first.
    ordered = sorted(items.items(), key=lambda item: item[1] in _SETTLED)
    shown = [f"  {name}  {state}" for name, state in ordered[:_SHOWN_ITEMS]]
    if len(items) > _SHOWN_ITEMS:
        shown.append(f"  and {len(items) - _SHOWN_ITEMS} more")
    return [head, *shown]


def _how_it_stands(known: Known, place: Place) -> tuple[str, str, bool]:
    receipt = known.receipt
    if receipt and receipt["outcome"] != "partial":
        return _finished(receipt)
    published = any(line.fields.get("outcome") == "published" for line in known.lines)
    if receipt or published or known.is_dead or _attempts(known.lines):
        return _under_way(known, place)
    refused = [line for line in known.lines if line.function == "receive"]
    if refused:
        last = max(refused, key=lambda line: line.time)
        return _refused(last.fields, place)
    stands = "Nothing is known of it here: it was never received, or longer ago than was looked."
    to_do = (
        "Look for it in the webhook dashboard: Resend sends it again, and Recover Failed Messages"
        " all that a disabled endpoint has missed."
        f" {place.command('backfill', before=' SINCE=...')} stores what Dimmy has, sent or not."
    )
    return stands, to_do, True


def _finished(receipt: Mapping[str, Any]) -> tuple[str, str, bool]:
    if receipt["outcome"] == "unrecognised":
        stands = "Kept: its shape is of no event that is known; its body is in the receipt."
        return stands, "Nothing, unless it should have been one.", False
    count = len(receipt["items"])
    return f"Done: {_items(count)} of {count} in storage.", "Nothing.", False


def _under_way(known: Known, place: Place) -> tuple[str, str, bool]:
    reasons = _open_reasons(known)
    attempts = _attempts(known.lines)
    said = [reason for reason in reasons if reason != "pending"]
    # While an attempt is at work, the reason is that of the one before it.
    reason = said[0] if said else str(attempts[-1].fields["reason"]) if attempts else ""
    why, needs_person = mend(reason, place)
    left = f"{_items(len(reasons))} not stored yet" if known.receipt else "Not resolved yet"
    if known.is_dead:
        return (
            f"{left}; Pub/Sub has given up and keeps it among the dead letters.",
            f"{why}Then {place.command('redrive')}." if why else f"{place.command('redrive')}.",
            True,
        )
    return (
        f"{left}; Pub/Sub has it and brings it back by itself.",
        why or f"Wait; {place.command('status')} tells what else waits.",
        needs_person,
    )


def _open_reasons(known: Known) -> list[str]:
    if known.receipt:
        return [state for state in known.receipt["items"].values() if state not in _SETTLED]
    attempts = _attempts(known.lines)
    return [str(attempts[-1].fields["reason"])] if attempts else []


def _attempts(lines: Iterable[LogLine]) -> list[LogLine]:
    """The attempts of `resolve` that failed as a whole, oldest first."""
    failed = [x for x in lines if x.function == "resolve" and x.fields.get("reason")]
    return sorted(failed, key=lambda line: line.time)


@dataclass(frozen=True)
class _Remedy:
    """What to do about states and reasons that begin like this."""

    form: str
    needs_person: bool
    sentences: str


_REMEDIES = (
    _Remedy(
        "401",
        True,
        "Dimmy's API rejects the key: make a new one on the page Account & Limits of Dimmy's web"
        " app, and {api_key}. ",
    ),
    _Remedy(
        "404",
        True,
        "Dimmy's API does not know the item, at least not with this key: is the key of the account"
        " that scanned it, and was the item deleted? ",
    ),
    _Remedy(
        "422|malformed",
        True,
        "Dimmy's API will never take this id. Tell Dimmy which event it came in. ",
    ),
    _Remedy(
        "429",
        False,
        "Dimmy's API limits the rate. If it goes on, lower DIMMY_CONCURRENCY; else wait. ",
    ),
    _Remedy(
        r"5\d\d|timeout|connection|408",
        False,
        "Dimmy's API is down or cannot be reached: wait until it is back. ",
    ),
    _Remedy(
        "storage|items/|events/|payloads/",
        True,
        "Storage refuses: {doctor} tells which permission or setting it is. ",
    ),
)


def mend(reason: str, place: Place) -> tuple[str, bool]:
    """What a reason of `resolve` asks for, as sentences, and whether it asks a person."""
    for remedy in _REMEDIES:
        if re.match(rf"(?:[\w-]+: )?(?:{remedy.form})", reason):  # an attempt's names the item
            commands = {
                "api_key": place.set_secret("DIMMY_API_KEY"),
                "doctor": place.command("doctor"),
            }
            return remedy.sentences.format(**commands), remedy.needs_person
    return "", False


def _refused(fields: Mapping[str, Any], place: Place) -> tuple[str, str, bool]:
    outcome = fields.get("outcome", "")
    stands = f"Refused with {fields.get('status')}, {outcome}; the sender tries again for 28 hours."
    recover = "Then Resend or Recover Failed Messages in the dashboard sends what was refused."
    if outcome == "signature_mismatch":
        to_do = (
            "The signing secret is not that of the endpoint: copy it from the webhook dashboard and"
            f" {place.set_secret('SIGNING_SECRETS')}. {recover}"
        )
    elif outcome == "timestamp_out_of_tolerance":
        to_do = (
            "The clock of the sender or of this machine is wrong, or it is an old request that"
            f" somebody sent again: {place.command('doctor')} compares the clock. {recover}"
        )
    elif outcome == "source_not_allowed":
        to_do = (
            "Its source is not in ALLOWED_SOURCES, or TRUSTED_PROXY_HOPS does not match the number"
            f" of proxies in between. {recover}"
        )
    elif outcome == "unavailable":
        return (
            "Not accepted: Pub/Sub or storage could not keep it. The sender tries again.",
            f"{place.command('doctor')} tells what is missing; what comes again is accepted.",
            True,
        )
    else:
        to_do = f"It does not come from the webhook's sender, or is more than fits. {recover}"
    return stands, to_do, True


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"
