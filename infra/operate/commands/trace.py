"""`make trace EVENT=msg_...` (or ITEM=...): what happened to an event, and what to do next.

It reads the log (LAST=30d says how far back), the receipt and the dead letters. Exit status 0 when
nothing is left to do; 1 when a person is needed; 2 when it could not begin.
"""

from collections.abc import Mapping

from rich.console import Console

from operate.commands.arguments import read_last
from operate.console import UsageError, print_text
from operate.diagnosis.story import Evidence, Story, tell
from operate.installation import Installation, LogQuery
from pipeline.message import is_event_id
from pipeline.store.items import is_item_id

_MAX_LINES = 1000
_MAX_EVENTS = 5  # of an item, the latest


def run(installation: Installation, settings: Mapping[str, str], console: Console) -> int:
    """Print the stories; return the exit status."""
    event_id, item_id = _read_ids(settings)
    last = read_last(settings, "30d")
    if event_id:
        event_ids = [event_id]
    else:
        event_ids = installation.events_of_item(item_id, last)
        if not event_ids:
            backfill = installation.instructions.command("backfill", SINCE="...")
            print_text(
                console,
                f"No known event named {item_id}: `{backfill}` stores it if Dimmy has it.",
            )
            return 1
        if len(event_ids) > _MAX_EVENTS:
            print_text(
                console, f"{len(event_ids)} events named it; these are the last {_MAX_EVENTS}:"
            )
    needs_person = False
    for each in event_ids[-_MAX_EVENTS:]:
        story = tell(_collect(installation, each, last), installation.instructions)
        _print_story(console, each, story)
        needs_person |= story.needs_person
    return 1 if needs_person else 0


def _read_ids(settings: Mapping[str, str]) -> tuple[str, str]:
    """EVENT and ITEM, one of which is empty."""
    event_id, item_id = settings.get("EVENT", ""), settings.get("ITEM", "")
    if bool(event_id) == bool(item_id):
        raise UsageError(
            "Name an event or an item: EVENT=msg_... (as the webhook dashboard shows it), or ITEM="
            " followed by the id of an item."
        )
    if (event_id and not is_event_id(event_id)) or (item_id and not is_item_id(item_id)):
        raise UsageError(f"{event_id or item_id} is not an id: letters, digits, _ and - only.")
    return event_id, item_id


def _collect(installation: Installation, event_id: str, last: str) -> Evidence:
    lines = installation.log_lines(LogQuery(last, _MAX_LINES, event_id=event_id))
    receipt = installation.receipts([event_id]).get(event_id)
    if receipt and receipt.is_finished:
        is_dead_letter: bool | None = False
    else:
        is_dead_letter = _is_dead_letter(installation, event_id)
    return Evidence(event_id, lines, receipt, is_dead_letter)


def _is_dead_letter(installation: Installation, event_id: str) -> bool | None:
    try:
        return event_id in installation.dead_letters().event_ids()
    except UsageError:
        return None  # Pub/Sub is not running


def _print_story(console: Console, event_id: str, story: Story) -> None:
    console.print(f"\n{event_id}", style="bold", markup=False)
    for line in story.history:
        print_text(console, f"  {line}")
    style = "red" if story.needs_person else "green"
    console.print(f"  {story.state}", style=style, markup=False, soft_wrap=True)
    print_text(console, f"  To do: {story.next_step}")
