"""`make trace EVENT=msg_...` (or ITEM=...): what happened to an event, and what to do next.

The ending of an id suffices where only one id ends like that. It reads the log (LAST=30d says how
far back), the receipt and the dead letters. Exit status 0 when nothing is left to do; 1 when a
person is needed; 2 when it could not begin.
"""

from collections.abc import Mapping

from rich.console import Console

from operate.commands.arguments import read_event_id, read_item_id, read_last
from operate.console import CommandError, UsageError, print_text
from operate.diagnosis.evidence import collect
from operate.diagnosis.photo_story import PhotoEvidence, tell_photos
from operate.diagnosis.story import Story, tell
from operate.installation import Installation, LogQuery
from operate.signed_webhooks import name_of_event
from operate.view.photos import StoredPhotos
from operate.view.storage_errors import UnreadableError
from pipeline.archive.photos import photos_of
from pipeline.json_text import NotJsonError, read_json
from pipeline.layout import item_name
from pipeline.store.errors import ObjectNotFoundError, StorageError
from pipeline.store.objects import Objects

_MAX_LINES = 1000
_MAX_EVENTS = 5  # of an item, the latest


def run(installation: Installation, settings: Mapping[str, str], console: Console) -> int:
    """Print the stories; return the exit status."""
    event_id, item_id = read_event_id(settings), read_item_id(settings)
    if bool(event_id) == bool(item_id):
        raise UsageError(
            "Name an event or an item: EVENT=msg_... (as the webhook dashboard shows it), or ITEM="
            " followed by the id of an item."
        )
    last = read_last(settings, "30d")
    if event_id:
        traced = [collect(installation, event_id, last)]
        if not traced[0].is_known:
            whole = _only_one(event_id, installation.event_ids_ending(event_id, last))
            traced = [collect(installation, whole, last)] if whole else traced
    else:
        item_id, event_ids = _events_of_item(installation, item_id, last, console)
        traced = [collect(installation, each, last) for each in event_ids]
    needs_person = not traced
    for evidence in traced:
        story = tell(evidence, installation.instructions)
        _print_story(console, name_of_event(evidence.event_id), story)
        needs_person |= story.needs_person
    if item_id and installation.archives_photos():
        story = tell_photos(_collect_photos(installation, item_id, last), installation.instructions)
        _print_story(console, f"photos of {item_id}", story)
        needs_person |= story.needs_person
    return 1 if needs_person else 0


def _only_one(ending: str, ids: set[str]) -> str:
    """The only id with this ending; empty where there is none."""
    if len(ids) > 1:
        shown = ", ".join(sorted(ids)[:_MAX_EVENTS])
        raise UsageError(f"{len(ids)} ids end with {ending}, such as {shown}: give more of it.")
    return next(iter(ids), "")


def _events_of_item(
    installation: Installation, item_id: str, last: str, console: Console
) -> tuple[str, list[str]]:
    """The whole id of an item, and the latest events that named it."""
    event_ids = installation.events_of_item(item_id, last)
    if not event_ids:
        whole = _only_one(item_id, installation.item_ids_ending(item_id, last))
        if whole and whole != item_id:
            item_id, event_ids = whole, installation.events_of_item(whole, last)
    if not event_ids:
        backfill = installation.instructions.command("backfill", SINCE="...")
        print_text(
            console, f"No known event named {item_id}: `{backfill}` stores it if Dimmy has it."
        )
    if len(event_ids) > _MAX_EVENTS:
        print_text(console, f"{len(event_ids)} events named it; these are the last {_MAX_EVENTS}:")
    return item_id, event_ids[-_MAX_EVENTS:]


def _collect_photos(installation: Installation, item_id: str, last: str) -> PhotoEvidence:
    settings = installation.storage()
    lines = installation.log_lines(LogQuery(last, _MAX_LINES, item_id=item_id))
    try:
        item = read_json(Objects(settings).get(item_name(item_id)).content)
        stored = StoredPhotos(settings).names(item_id)
    except ObjectNotFoundError:
        return PhotoEvidence([], (), lines)
    except (StorageError, UnreadableError, NotJsonError) as error:
        raise CommandError(f"storage: {error}") from error
    return PhotoEvidence(photos_of(item) if isinstance(item, dict) else [], stored, lines)


def _print_story(console: Console, name: str, story: Story) -> None:
    console.print(f"\n{name}", style="bold", markup=False)
    for line in story.history:
        print_text(console, f"  {line}")
    style = "red" if story.needs_person else "green"
    console.print(f"  {story.state}", style=style, markup=False, soft_wrap=True)
    print_text(console, f"  To do: {story.next_step}")
