"""`make status`: how `make run` is doing, from its log, its receipts and its dead letters.

Exit status 0 when all is well, 1 when something needs a person.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from google.api_core.exceptions import ServiceUnavailable
from rich.console import Console

from operate.console import run
from operate.status import Finding, show
from operate.story import LogLine
from sandbox.environment import RunningStack, data_folder, read_settings, running_stack
from sandbox.log_file import LogFile
from sandbox.pubsub_admin import PubSubAdmin
from sandbox.redrive import SandboxDeadLetters

_LATE = timedelta(minutes=15)


def main() -> int:
    return run(_status)


@dataclass(frozen=True)
class Seen:
    """What is known of a `make run`, whose stack is None while it is not up."""

    stack: RunningStack | None
    lines: Iterable[LogLine]  # at least those that `tells_of_state` chooses
    is_finished: Callable[[str], bool]  # whether all of an event is in storage
    dead: set[str]  # the events among the dead letters


def _status(console: Console) -> int:
    folder = data_folder(read_settings())
    stack = running_stack(folder)
    seen = Seen(
        stack,
        LogFile(folder).lines(),
        lambda event_id: is_finished(folder / "events" / f"{event_id}.json"),
        _dead_letters(stack, folder) if stack else set(),
    )
    return show(console, list(findings(seen, datetime.now(UTC))))


def tells_of_state(line: LogLine) -> bool:
    """Whether a line of the log counts for the state."""
    return line.fields.get("outcome") == "published" or line.fields.get("severity") == "ERROR"


def findings(seen: Seen, now: datetime) -> Iterator[Finding]:
    """How it stands at a time."""
    yield Finding(
        "make run",
        seen.stack.webhook_url if seen.stack else "is not up",
        "" if seen.stack else "make run",
    )
    lines = [line for line in seen.lines if tells_of_state(line)]
    published = [line for line in lines if line.fields.get("outcome") == "published"]
    last = max((line.time for line in published), default=None)
    yield Finding("last event", f"{last:%Y-%m-%d %H:%M:%S} UTC" if last else "none yet")
    hour, day = (
        sum(line.time > now - timedelta(hours=hours) for line in published) for hours in (1, 24)
    )
    yield Finding("events", f"{hour} in the last hour, {day} in the last day")
    yield from _waiting(seen, published, now)
    yield Finding("dead letters", str(len(seen.dead)), "make redrive" if seen.dead else "")
    errors = [
        line
        for line in lines
        if line.fields.get("severity") == "ERROR" and line.time > now - timedelta(hours=1)
    ]
    # An event that has been received since tells that what was wrong is mended.
    is_over = not errors or (last is not None and last > errors[-1].time)
    event_id = errors[-1].fields.get("event_id", "") if errors else ""
    yield Finding(
        "errors in the last hour",
        str(len(errors)),
        "" if is_over else f"make trace EVENT={event_id}",
    )


def _waiting(seen: Seen, published: list[LogLine], now: datetime) -> Iterator[Finding]:
    received = {str(line.fields["event_id"]): line.time for line in reversed(published)}
    waiting = {
        event_id: time
        for event_id, time in received.items()
        if event_id not in seen.dead and not seen.is_finished(event_id)
    }
    yield Finding("events that wait", str(len(waiting)))
    if not waiting:
        yield Finding("the oldest waits", "-")
        return
    event_id, since = min(waiting.items(), key=lambda item: item[1])
    late = now - since > _LATE
    yield Finding(
        "the oldest waits",
        f"{(now - since).total_seconds():.0f} s",
        f"make trace EVENT={event_id}" if late else "",
    )


def is_finished(receipt: Path) -> bool:
    """Whether there is a receipt, and says that all of the event is in storage."""
    try:
        return bool(json.loads(receipt.read_bytes())["outcome"] != "partial")
    except FileNotFoundError:
        return False


def _dead_letters(stack: RunningStack, folder: Path) -> set[str]:
    admin = PubSubAdmin(stack.pubsub_host)
    try:
        return SandboxDeadLetters(admin, stack.resolve_url, folder).look()
    except ServiceUnavailable:
        return set()
    finally:
        admin.close()


if __name__ == "__main__":
    sys.exit(main())
