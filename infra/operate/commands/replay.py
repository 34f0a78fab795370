"""`make replay OUTCOME=unrecognised [SINCE=...]` or `EVENT=msg_...`: resolves stored events again.

Each receipt contains the body of its event. It is published once more, as a new delivery, so
`resolve` fetches and stores all its items again. After an upgrade that knows more kinds of events,
OUTCOME=unrecognised resolves those that the earlier version has only kept. Exit status 0 when all
are published; 2 when it could not begin.
"""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from rich.console import Console

from operate.commands.arguments import read_event_id
from operate.commands.listing import stored_since
from operate.console import (
    CommandError,
    UsageError,
    confirm,
    count_of,
    first_line,
    print_text,
    show_progress,
)
from operate.installation import Installation, open_objects
from pipeline.layout import RECEIPTS, payload_name, receipt_name
from pipeline.message import write_attributes
from pipeline.store.receipts import Receipt, ReceiptError
from pipeline.store.timestamps import read_timestamp

if TYPE_CHECKING:
    from obstore.store import GCSStore, LocalStore

_OUTCOMES = ("done", "partial", "unrecognised")
_READERS = 16
_MAX_DATA_BYTES = 7_000_000  # in base64 within the 10 MB of a request


def run(installation: Installation, settings: Mapping[str, str], console: Console) -> int:
    """Show how many there are, ask, and publish them; return the exit status."""
    storage = open_objects(installation.storage())
    event_id = read_event_id(settings)
    if event_id:
        receipts = [_read(storage, receipt_name(event_id))]
    else:
        receipts = _find(installation, storage, settings, console)
    print_text(console, f"{count_of(len(receipts), 'event')} to resolve again.")
    if not receipts:
        return 0
    if installation.asks_before_changes:
        confirm(console, settings, "Publish them once more?")
    for receipt in show_progress(console, "published", receipts):
        _publish(installation, storage, receipt)
    return 0


def _find(
    installation: Installation,
    storage: "LocalStore | GCSStore",
    settings: Mapping[str, str],
    console: Console,
) -> list[Receipt]:
    """The receipts with this outcome that were written since."""
    outcome = settings.get("OUTCOME", "")
    if outcome not in _OUTCOMES:
        raise UsageError(
            f"Name the events: EVENT=msg_..., or OUTCOME= followed by {', '.join(_OUTCOMES)}."
        )
    names = stored_since(installation, RECEIPTS, settings, console)
    with ThreadPoolExecutor(_READERS) as pool:
        read = show_progress(
            console, "read", pool.map(lambda n: _read(storage, n), names), len(names)
        )
        return [receipt for receipt in read if receipt.outcome == outcome]


def _read(storage: "LocalStore | GCSStore", name: str) -> Receipt:
    try:
        content = bytes(obstore.get(storage, name).bytes())
        return Receipt.read_with_payload(content)
    except FileNotFoundError:
        raise UsageError(f"There is no {name}. `make trace` prints the whole id.") from None
    except (BaseError, ReceiptError) as error:
        raise CommandError(f"{name}: {error}") from error


def _publish(
    installation: Installation, storage: "LocalStore | GCSStore", receipt: Receipt
) -> None:
    body = receipt.payload
    payload = None
    if len(body) > _MAX_DATA_BYTES:
        payload = payload_name(receipt.event_id)
        try:
            obstore.put(storage, payload, body)
        except BaseError as error:
            raise CommandError(f"{payload}: {first_line(error)}") from error
        body = b""
    attributes = write_attributes(
        receipt.event_id, str(int(time.time())), _later_than(receipt), payload
    )
    installation.publish(attributes, body)


def _later_than(receipt: Receipt) -> datetime:
    """Now, but after the stored delivery, also where this machine's clock is behind."""
    now = datetime.now(UTC)
    stored = read_timestamp(receipt.received_at)
    return max(now, stored.datetime + timedelta(microseconds=1)) if stored else now
