"""The status of an installation, and which command helps where something needs a person."""

import functools
from collections.abc import Callable, Iterator, Sequence

from operate.console import CommandError
from operate.diagnosis.refusals import Refusals
from operate.installation import Backlog, Finding, Installation, LogLine, LogQuery
from operate.signed_webhooks import sender_of
from operate.times import lasting, shown

_LATE_SECONDS = 15 * 60
_MAX_ERRORS = 100
_MAX_LINES = 200

ReadLine = Callable[[], LogLine | None]  # reads a log line once; raises CommandError


def findings(installation: Installation) -> Iterator[Finding]:
    """The status, line by line. A part that cannot be read is a line that says why.

    Raises:
        UsageError: something has to be done first.
    """
    last_event = functools.cache(lambda: _last(installation, "webhook published", "30d"))
    last_reconcile = functools.cache(lambda: _last(installation, "reconcile done", "7d"))
    parts = {
        "what is deployed": installation.components(),
        "events waiting": _backlog(installation),
        "events": _events(installation, last_event),
        "refused webhooks": _refused(installation),
        "errors in the last hour": _errors(installation, last_event, last_reconcile),
        "unknown items": _unknown_items(installation),
        "photos": _photos(installation),
        "repaired by reconcile": _repairs(installation, last_reconcile),
        "scheduled reconcile": installation.schedules(),
    }
    for name, part in parts.items():
        try:
            yield from part
        except CommandError as error:
            text = " ".join(str(error).split())
            yield Finding(
                name, f"cannot be read: {text}", installation.instructions.command("doctor")
            )


def _events(installation: Installation, last_event: ReadLine) -> Iterator[Finding]:
    yield Finding("last event", _when(last_event()), events="all")
    hour, day = installation.events_received()
    yield Finding("events", f"{hour} in the last hour, {day} in the last day", events="all")


def _when(last_event: LogLine | None) -> str:
    if last_event is None:
        return "none in 30 days"
    sender = sender_of(str(last_event.fields.get("event_id", "")))
    return f"{shown(last_event.time)}{f', sent by {sender}' if sender else ''}"


def _backlog(installation: Installation) -> Iterator[Finding]:
    backlog = installation.backlog()
    instructions = installation.instructions
    on_disk = ", on disk: `make run` goes on with them" if _is_on_disk(backlog) else ""
    yield Finding("events waiting", f"{_number(backlog.waiting)}{on_disk}", events="waiting")
    remedy = ""
    if (backlog.oldest_seconds or 0) > _LATE_SECONDS:
        if backlog.oldest_event_id:
            remedy = instructions.command("trace", EVENT=backlog.oldest_event_id)
        else:
            remedy = instructions.command("logs", SEVERITY="WARNING")
    oldest = backlog.oldest_seconds
    age = "-" if oldest is None else lasting(oldest)
    yield Finding("oldest event waiting", age, remedy, "waiting")
    redrive = instructions.command("redrive")
    if backlog.is_paused:
        redrive = f"make run, then {redrive}"
    remedy = redrive if backlog.dead_letters else ""
    yield Finding("dead letters", _number(backlog.dead_letters), remedy, "dead letter")


def _is_on_disk(backlog: Backlog) -> bool:
    return backlog.is_paused and bool(backlog.waiting)


def _refused(installation: Installation) -> Iterator[Finding]:
    """Webhooks whose signature does not match; Svix shows them only in its dashboard."""
    refusals = Refusals.read(installation)
    if refusals.lines:
        change = installation.instructions.change_secret("SIGNING_SECRETS")
        remedy = change if refusals.go_on else ""
        yield Finding("refused webhooks", str(refusals), remedy, "refused")


def _errors(
    installation: Installation, last_event: ReadLine, last_reconcile: ReadLine
) -> Iterator[Finding]:
    """The errors of the last hour. Only those that have not been resolved since need a person."""
    name = "errors in the last hour"
    # A 503 of resolve or archive is an error for Cloud Run, and only a retry for Pub/Sub.
    query = LogQuery("1h", _MAX_ERRORS, severity="ERROR", has_requests=False)
    errors = installation.log_lines(query)
    value = f"{len(errors)} or more" if len(errors) == _MAX_ERRORS else str(len(errors))
    last_success = {"receive": last_event(), "reconcile": last_reconcile()}
    open_errors = [
        line
        for line in errors
        if line.function == "resolve" or _is_after(line, last_success.get(line.function))
    ]
    open_errors = _of_unfinished_events(installation, open_errors)
    instructions = installation.instructions
    if not open_errors:
        remedy = ""
    elif event_id := open_errors[-1].fields.get("event_id"):
        remedy = instructions.command("trace", EVENT=event_id)
    else:
        remedy = instructions.command("logs", SEVERITY="ERROR")
    yield Finding(name, value, remedy)


def _of_unfinished_events(installation: Installation, errors: Sequence[LogLine]) -> list[LogLine]:
    """The errors without those of `resolve` whose event has been finished since."""
    event_ids = {
        str(line.fields["event_id"])
        for line in errors
        if line.function == "resolve" and line.fields.get("event_id")
    }
    receipts = installation.receipts(event_ids) if event_ids else {}
    finished = {event_id for event_id, receipt in receipts.items() if receipt.is_finished}
    return [line for line in errors if line.fields.get("event_id") not in finished]


def _unknown_items(installation: Installation) -> Iterator[Finding]:
    """Events that wait only because the API does not know their items, which is no outage."""
    lines = installation.log_lines(LogQuery("1h", _MAX_LINES, message="event partial"))
    event_ids = [
        str(line.fields["event_id"])
        for line in lines
        if line.fields.get("reason_class") == "not_found" and line.fields.get("event_id")
    ]
    receipts = installation.receipts(set(event_ids)) if event_ids else {}
    waiting = [
        event_id
        for event_id in dict.fromkeys(event_ids)
        if event_id not in receipts or not receipts[event_id].is_finished
    ]
    if waiting:
        trace = installation.instructions.command("trace", EVENT=waiting[-1])
        yield Finding("waiting for unknown items", str(len(waiting)), trace, "partial")


def _photos(installation: Installation) -> Iterator[Finding]:
    """What `archive` has not stored. Photos may wait for hours, which needs no person."""
    if not installation.archives_photos():
        return
    backlog = installation.photo_backlog()
    instructions = installation.instructions
    yield Finding("items waiting for photos", _number(backlog.waiting))
    remedy = instructions.command("logs", SEVERITY="WARNING") if backlog.dead_letters else ""
    yield Finding("dead letters of archive", _number(backlog.dead_letters), remedy)
    refused = installation.log_lines(LogQuery("1d", _MAX_LINES, message="photos refused"))
    item_ids = dict.fromkeys(str(line.fields.get("item_id", "")) for line in refused)
    if item_ids:
        trace = instructions.command("trace", ITEM=next(reversed(item_ids)))
        yield Finding("items with refused photos", f"{len(item_ids)} in the last day", trace)


def _repairs(installation: Installation, last_reconcile: ReadLine) -> Iterator[Finding]:
    """What the last reconcile stored, because its webhook had not arrived."""
    name, done = "repaired by reconcile", last_reconcile()
    if done is None:
        yield Finding(name, "none finished in 7 days")
    elif warning := done.fields.get("warning"):
        yield Finding(name, str(warning), installation.instructions.command("doctor"))
    else:
        stored, updated, seen = (
            int(done.fields.get(count, 0)) for count in ("stored", "updated", "seen")
        )
        value = f"{stored} stored and {updated} updated of {seen}, {shown(done.time)}"
        yield Finding(name, value)


def _last(installation: Installation, message: str, last: str) -> LogLine | None:
    lines = installation.log_lines(LogQuery(last, 1, message=message))
    return lines[-1] if lines else None


def _is_after(line: LogLine, success: LogLine | None) -> bool:
    return success is None or line.time > success.time


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f}"
