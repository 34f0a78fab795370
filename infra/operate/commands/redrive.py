"""`make redrive`: sends the dead letters through `resolve` once more.

Nothing but the push endpoint of their subscription is changed, and changed back. In between Pub/Sub
pushes the messages to `resolve`; it removes those whose events are finished and keeps the others.
Exit status 0 when no dead letter is left; 1 when some are; 2 when it could not begin.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from operate.console import confirm, count_of, print_text
from operate.installation import DeadLetters, Installation
from pipeline.store.receipts import Receipt

_MAX_SHOWN = 20


def run(installation: Installation, settings: Mapping[str, str], console: Console) -> int:
    """Show the dead letters, ask, push them; return the exit status."""
    dead_letters = installation.dead_letters()
    # An interrupted re-drive may have left them pushed, and then none can be pulled.
    dead_letters.hold()
    event_ids = _show(installation, dead_letters, console)
    if not event_ids:
        return _show_hidden(dead_letters, console)
    if installation.asks_before_changes:
        confirm(console, settings, "Push them to resolve once more?")
    columns = (TextColumn("re-driven"), BarColumn(), TextColumn("{task.completed:.0f}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("", total=len(event_ids))
        left = redrive(
            installation,
            dead_letters,
            event_ids,
            lambda finished: progress.update(bar, completed=finished),
        )
    receipts = installation.receipts(left)
    for event_id in sorted(left)[:_MAX_SHOWN]:
        print_text(console, f"  {event_id}  {_describe(receipts.get(event_id))}")
    print_text(console, f"{len(left)} are left.")
    return 1 if left else 0


def redrive(
    installation: Installation,
    dead_letters: DeadLetters,
    event_ids: set[str],
    progress: Callable[[int], None] = lambda _: None,
) -> set[str]:
    """Push until these events are finished or progress stops; return the unfinished ones.

    `progress` is called with the number of finished events.
    """
    left = set(event_ids)
    try:
        dead_letters.push()
        give_up = time.monotonic() + dead_letters.patience_seconds
        while left and time.monotonic() < give_up:
            time.sleep(dead_letters.pause_seconds)
            receipts = installation.receipts(left).items()
            finished = {name for name, each in receipts if each.redriven and each.is_finished}
            if finished:
                left -= finished
                give_up = time.monotonic() + dead_letters.patience_seconds
                progress(len(event_ids) - len(left))
    finally:
        dead_letters.hold()
    return left


def _show(installation: Installation, dead_letters: DeadLetters, console: Console) -> set[str]:
    """Print the dead letters and the reasons; return the ids of their events."""
    event_ids = dead_letters.event_ids()
    receipts = installation.receipts(event_ids)
    for event_id in sorted(event_ids)[:_MAX_SHOWN]:
        print_text(console, f"  {event_id}  {_describe(receipts.get(event_id))}")
    if len(event_ids) > _MAX_SHOWN:
        print_text(console, f"  and {len(event_ids) - _MAX_SHOWN} more. All of them by reason:")
        reasons = Counter(_describe(receipts.get(event_id)) for event_id in event_ids)
        for reason, count in reasons.most_common(_MAX_SHOWN):
            print_text(console, f"  {count:6}  {reason}")
    print_text(console, f"{count_of(len(event_ids), 'dead letter')}.")
    return event_ids


def _show_hidden(dead_letters: DeadLetters, console: Console) -> int:
    """A message that was pushed or pulled a moment ago cannot be pulled; metrics still count it."""
    count = dead_letters.count()
    if not count:
        return 0
    print_text(
        console,
        f"Cloud Monitoring counted {count} some minutes ago: they have been finished since, or are"
        " temporarily undeliverable. Try again in some minutes.",
    )
    return 1


def _describe(receipt: Receipt | None) -> str:
    if receipt is None:
        return "no receipt"
    unsettled = list(receipt.unsettled.values())
    reason = f": {unsettled[0]}" if unsettled else ""
    return f"{receipt.outcome}, {count_of(len(unsettled), 'item')} not stored{reason}"
