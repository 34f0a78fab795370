"""`make discard EVENT=msg_... [ITEM=...]`: gives up items of an event that will never be stored.

An event waits for each of its items. Dimmy's API does not know an item that was deleted, but a key
of another account gets the same answer, so only a person can decide to stop waiting. The receipt
and the log say who did, and when. Without ITEM all items are given up that the API does not know.
Exit status 0 when nothing is left of the event; 1 when something is; 2 when it could not begin.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from rich.console import Console

from operate.commands.arguments import read_event_id
from operate.console import CommandError, UsageError, confirm, count_of, print_text
from operate.installation import Installation
from pipeline.store.errors import StorageError
from pipeline.store.receipts import Receipt
from pipeline.store.states import reason_class
from pipeline.store.store import Store


def run(installation: Installation, settings: Mapping[str, str], console: Console) -> int:
    """Show the items, ask, and give them up; return the exit status."""
    event_id, item_id = read_event_id(settings), settings.get("ITEM", "")
    if not event_id:
        raise UsageError("EVENT is missing: the event whose items are to be given up.")
    receipt = installation.receipts([event_id]).get(event_id)
    if receipt is None:
        raise UsageError(
            f"{event_id} has no receipt. Either it has not reached resolve yet, or this is not the"
            f" whole id, which {installation.instructions.command('trace', EVENT=event_id)} prints."
        )
    chosen = _choose(receipt, item_id)
    for name, state in chosen.items():
        print_text(console, f"  {name}  {state}")
    if installation.asks_before_changes:
        confirm(console, settings, f"Give up {count_of(len(chosen), 'item')} of {event_id}?")
    note = f"{installation.operator()}, {datetime.now(UTC).isoformat(timespec='seconds')}"
    try:
        receipt = Store(installation.storage()).discard_items(event_id, chosen, note)
    except StorageError as error:
        raise CommandError(str(error)) from error
    print_text(console, f"{count_of(len(chosen), 'item')} discarded by {note}.")
    if receipt.is_finished:
        redrive = installation.instructions.command("redrive")
        print_text(
            console,
            "Nothing is left of the event: the next delivery is acknowledged. If it is a dead"
            f" letter, {redrive} removes it.",
        )
        return 0
    print_text(
        console, f"{count_of(len(receipt.unsettled), 'item')} of the event still to be stored."
    )
    return 1


def _choose(receipt: Receipt, item_id: str) -> dict[str, str]:
    """The items to give up, with the state of each."""
    unsettled = receipt.unsettled
    if item_id:
        if item_id not in unsettled:
            state = receipt.items.get(item_id, "not in this event")
            raise UsageError(f"There is nothing to give up: {item_id} is {state}.")
        return {item_id: unsettled[item_id]}
    unknown = {
        name: state for name, state in unsettled.items() if reason_class([state]) == "not_found"
    }
    if not unknown:
        raise UsageError(
            f"No item that {receipt.event_id} waits for is unknown to the API. To give up another"
            " one, name it as its receipt does: ITEM=..."
        )
    return unknown
