"""`make demo`: sends signed events through the pipeline on this machine and checks the result.

Exit status 0 when storage and the view `items` have every item exactly as the API serves it, and
storage has every photo; 1, with the reason, when they do not; 2 when the demo could not start; 130
after Ctrl-C.
"""

import functools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from operate.console import open_console
from operate.diagnosis.completeness import Comparison
from operate.installation import open_dimmy
from pipeline.archive.photos import photos_of
from pipeline.layout import photo_name
from pipeline.store.settings import StorageSettings
from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi, Fault
from sandbox.google_pubsub import MissingEmulatorError
from sandbox.journal import Journal, describe, item_table
from sandbox.photos import PhotoFault
from sandbox.processes import StartError
from sandbox.proxies import never_use_for_loopback
from sandbox.sql import as_table
from sandbox.stack import Stack, new_secret, pubsub_kind, start_stack
from sandbox.svix_sender import Message, SvixSender, new_message
from sandbox.view_comparison import wrong_rows

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".data"
TIMEOUT_SECONDS = 45.0
_DEMOS_KEPT = 3
_LONGEST_DEMO_SECONDS = 1800.0

_QUERY = """\
SELECT flow_id, COUNT(*) AS scans, COUNT(barcode) AS barcodes, SUM(photo_count) AS photos,
  ROUND(SUM(volume_l)) AS litres, ROUND(SUM(weight_g) / 1000, 1) AS kilograms
FROM items GROUP BY flow_id ORDER BY scans DESC, flow_id"""


def main() -> int:
    never_use_for_loopback()
    # Handle these signals as Ctrl-C, so that the started processes are stopped, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    FOLDER.mkdir(exist_ok=True)
    _delete_earlier_demos()
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=FOLDER))
    journal = Journal(open_console(), folder)
    try:
        kind = pubsub_kind(os.environ)
        with start_stack(
            folder, pubsub=kind, warehouse=True, photos=True, on_log=journal.log
        ) as stack:
            assert stack.api
            pubsub = "Google's emulator" if kind == "google" else "the sandbox's"
            journal.print_text(
                f"Up: receive, resolve, Pub/Sub ({pubsub}), Dimmy's API, a folder as storage, and"
                " DuckDB as BigQuery.\n"
            )
            problems = _run_demo(stack, stack.api, journal)
    except (ValueError, MissingEmulatorError, StartError) as error:
        journal.print_text(str(error), "red")
        return 2
    except KeyboardInterrupt:
        journal.print_text("Stopped.")
        return 130
    for problem in problems:
        journal.print_text(problem, "red")
    if not problems:
        journal.print_text(
            f"Nothing was lost. Items, receipts, tables: {folder.relative_to(ROOT)}/"
        )
    return 1 if problems else 0


def _delete_earlier_demos() -> None:
    """Delete all but the newest ones and those in use. Another demo may delete some, too."""
    ages = {path: age for path in FOLDER.glob("demo-*") if (age := _age(path)) is not None}
    for path in sorted(ages, key=ages.__getitem__)[_DEMOS_KEPT:]:
        if ages[path] > _LONGEST_DEMO_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _age(path: Path) -> float | None:
    """The seconds since a folder was changed; None where it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None


def _run_demo(stack: Stack, api: DimmyApi, journal: Journal) -> list[str]:
    rng = random.Random(20261101)
    prefix = api.photo_url_prefix
    items = [catalogue.make_item(rng, photo_url_prefix=prefix) for _ in range(8)]
    scanned = [api.put(item) for item in items]
    # These two are sent as full payloads. The API has them only for the comparison at the end.
    by_payload = [
        api.put(catalogue.vendor_example(prefix)),
        api.put(catalogue.make_item(rng, photos=4, photo_url_prefix=prefix)),
    ]

    journal.print_text("One scan, five scans at once, two full payloads:")
    messages = [
        _send(stack, journal, {"item_ids": scanned[:1]}),
        _send(stack, journal, {"item_ids": scanned[1:6]}),
        *(_send(stack, journal, json.loads(api.body_of(item_id))) for item_id in by_payload),
    ]
    problems = _wait_until_done(stack, messages)

    journal.print_text(
        "\nTwo API errors (503, then 429), and an item that does not exist at first (404):"
    )
    api.fail(Fault(status=503, item_id=scanned[6], times=1))
    api.fail(Fault(status=429, retry_after="1", item_id=scanned[6], times=1))
    api.fail(Fault(status=404, item_id=scanned[7], times=1))
    api.photos.fail(PhotoFault("status", 404, times=1))  # a photo that is still being uploaded
    problems += _wait_until_done(stack, [_send(stack, journal, {"item_ids": scanned[6:]})])

    journal.print_text("\nThe first event twice again, a test message, and a forged event:")
    for attempts in (2, 3):
        _attempt(stack, journal, messages[0], "the first event again")
        # One that is overtaken by the next one finds a finished receipt and does not count.
        problems += _wait_for_attempts(stack, messages[0], attempts)
    messages.append(_send(stack, journal, {"success": True}))
    problems += _forge(stack, journal)
    problems += _wait_until_done(stack, messages)

    stored = {
        path.stem: path.read_bytes() for path in sorted((stack.folder / "items").glob("*.json"))
    }
    journal.console.print()
    journal.console.print(item_table(stored.values()))
    problems += _verify(stack, api, journal)
    problems += _compare(api, scanned + by_payload, stored)
    problems += _query(stack, journal, stored)
    return problems + _compare_photos(stack, api, journal, stored)


def _send(stack: Stack, journal: Journal, content: Any) -> Message:
    message = new_message(content)
    _attempt(stack, journal, message, describe(content))
    return message


def _attempt(stack: Stack, journal: Journal, message: Message, description: str) -> None:
    journal.sent(message, description)
    journal.answered(message, stack.attempt(message))


def _forge(stack: Stack, journal: Journal) -> list[str]:
    """Send an event signed with another secret, which must be refused."""
    forged = new_message({"item_ids": ["000000000000000000000000"]})

    async def attempt() -> None:
        async with SvixSender(stack.sender.url, new_secret()) as forger:
            await forger.attempt(forged)

    journal.sent(forged, "items.scanned, signed with another secret")
    stack.background.run(attempt())
    journal.answered(forged, forged.attempts[-1])
    if forged.attempts[-1].status != 401:
        return [f"The forged event got {forged.attempts[-1].status} instead of 401."]
    return []


def _wait_until_done(stack: Stack, messages: list[Message]) -> list[str]:
    """Wait until the messages are finished; return a problem for each that is not in time."""
    problems = []
    for message in messages:
        if not message.delivered:
            problems.append(f"{message.message_id} was not accepted: {message.attempts[-1]}")
        elif not _wait_for(functools.partial(_is_done, stack, message)):
            problems.append(f"{message.message_id} is not finished: {_receipt(stack, message)}")
    return problems


def _wait_for_attempts(stack: Stack, message: Message, count: int) -> list[str]:
    if _wait_for(lambda: _receipt(stack, message).get("attempts") == count):
        return []
    return [f"{message.message_id} did not reach {count} attempts: {_receipt(stack, message)}"]


def _wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _is_done(stack: Stack, message: Message) -> bool:
    return _receipt(stack, message).get("outcome") in {"done", "unrecognised"}


def _receipt(stack: Stack, message: Message) -> dict[str, Any]:
    return stack.receipt(message.message_id) or {}


def _verify(stack: Stack, api: DimmyApi, journal: Journal) -> list[str]:
    """Compare what the API lists with what is stored, as `make verify` does."""
    dimmy = open_dimmy(api.url, api.key, concurrency=4, timeout_seconds=10.0)
    comparison = Comparison(dimmy, StorageSettings(f"file://{stack.folder}"))
    start = datetime.fromisoformat(catalogue.VENDOR_EXAMPLE["created_at"]).replace(tzinfo=UTC)
    found = comparison.compare_day(start, datetime.now(UTC) + timedelta(minutes=1))
    text = f"{found.listed} items in the API, {found.stored} of them stored in this version"
    journal.print_text(f"make verify: {text}.")
    return [] if found.is_complete else [f"Not everything is stored: {text}."]


def _compare(api: DimmyApi, item_ids: list[str], stored: dict[str, bytes]) -> list[str]:
    problems = [f"Item {item_id} is lost." for item_id in item_ids if item_id not in stored]
    problems += [f"Item {item_id} was never sent." for item_id in stored.keys() - set(item_ids)]
    problems += [
        f"Item {item_id} differs from the API's."
        for item_id in item_ids
        if item_id in stored and stored[item_id] != api.body_of(item_id)
    ]
    return problems


def _compare_photos(
    stack: Stack, api: DimmyApi, journal: Journal, stored: dict[str, bytes]
) -> list[str]:
    """Wait until every photo of the stored items is stored, and compare them."""
    photos = {
        stack.folder / photo_name(item_id, photo.name): str(photo.address)
        for item_id, line in stored.items()
        for photo in photos_of(json.loads(line))
    }
    _wait_for(lambda: all(path.exists() for path in photos))
    wrong = [
        str(path.relative_to(stack.folder))
        for path, address in photos.items()
        if not path.exists()
        or path.read_bytes() != api.photos.content_of(address.removeprefix(api.photo_url_prefix))
    ]
    journal.print_text(f"{len(photos)} photos in these items, {len(photos) - len(wrong)} stored.")
    return [f"{name} is not the photo that Dimmy serves." for name in wrong]


def _query(stack: Stack, journal: Journal, stored: dict[str, bytes]) -> list[str]:
    """Show a query of the view `items`, and compare the view with what is stored."""
    warehouse = stack.warehouse
    assert warehouse
    _wait_for(lambda: not wrong_rows(warehouse, stored))
    journal.print_text(f"\n{_QUERY}")
    journal.console.print(as_table(warehouse.query(_QUERY)))
    wrong = wrong_rows(warehouse, stored)
    journal.print_text(
        f"{len(stored)} items in the bucket, {len(stored) - len(wrong)} of them in the view."
    )
    return [f"The row of item {item_id} is not the stored item." for item_id in wrong]


if __name__ == "__main__":
    sys.exit(main())
