"""`make chaos`: sends thousands of events while components fail, then checks for lost items.

The API returns errors, pages of a gateway and invalid bodies, responds late and drops connections.
Storage refuses writes, and carries some out without an answer. The functions are killed every few
seconds, Pub/Sub is unreachable for a while, and its attempt counter falls back. Events are resent.
The sender follows Svix's retry schedule on an accelerated clock. Some photos are still being
uploaded when their item is announced. Our own Pub/Sub makes some deliveries twice, to the tables,
too.

Some items are deleted before they are fetched: their events are finished with `discard`. Some are
edited without an event, and some have no event at all: `reconcile` stores them, while the API
fails and items are deleted between its pages. At the end, all expected items and their photos are
compared with storage byte by byte, the view `items` with storage, and the counts of `reconcile`
with what it has written.

Exit status 0 when every event was accepted, every item is stored correctly with its photos and has
its row in the view, and every count is true; 1 otherwise; 2 when the run could not start.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from operate.console import open_console
from pipeline.archive.photos import photos_of
from pipeline.message import event_id_of
from pipeline.reconcile.counts import COUNTS
from pipeline.store.settings import StorageSettings
from pipeline.store.store import Store
from sandbox import catalogue
from sandbox.cloud_storage import CloudStorage, StoredObject
from sandbox.dimmy_api import DimmyApi, Fault
from sandbox.functions import Function
from sandbox.google_pubsub import MissingEmulatorError
from sandbox.installation import SandboxDeadLetters
from sandbox.photo_comparison import missing_photos
from sandbox.photos import PhotoFault
from sandbox.processes import StartError
from sandbox.proxies import never_use_for_loopback
from sandbox.stack import DEAD_LETTERS, RESOLVE, PubSubKind, Stack, pubsub_kind, start_stack
from sandbox.svix_sender import Message, new_message
from sandbox.view_comparison import wrong_rows

SPEED = 100.0  # of the retry schedule's clock
KILL_EVERY_SECONDS = 5.0
OUTAGE_SECONDS = 5.0
STORAGE_ERROR_SHARE = 0.01
SENDERS = 24
SEND_INTERVAL_SECONDS = 0.6  # between two messages of a sender, on average
STALL_SECONDS = 120.0  # the run gives up after this time without progress
BUCKET = "scans"
_RECONCILE_SETTINGS = (
    "STORAGE_URL",
    "STORAGE_EMULATOR_HOST",
    "DIMMY_API_URL",
    "DIMMY_API_KEY",
    "DIMMY_TIMEOUT_SECONDS",
    "ITEMS_TOPIC",
    "PUBSUB_EMULATOR_HOST",
)

FAULTS = (
    Fault(status=500, share=0.10),
    Fault(status=503, share=0.11),  # of the rest, so that both together are 20 %
    Fault(status=429, retry_after="0", share=0.05 / 0.80),
    Fault("cut", share=0.03 / 0.75),
    Fault("truncated", share=0.02 / 0.72),
    Fault("bare status", status=404, detail="<html>no such page</html>", share=0.02 / 0.70),
)
LOST_ANSWER_SHARE = 0.02
ATTEMPT_RESET_SHARE = 0.05
REPEAT_SHARE = 0.05  # of the acknowledged deliveries
DELETED_SHARE = 0.01  # of the events: one item of each
WITHOUT_EVENT_SHARE = 0.05
MAX_RECONCILES = 60
LEASE_SECONDS = 90.0  # after which a message that was pulled or pushed can be pulled again
VIEW_SECONDS = 60.0  # until the last messages are rows, and the last photos are stored
PHOTOGRAPHED_SHARE = 0.1  # of the items; the photos of the others are on a host that is refused
LATE_PHOTOS_SHARE = 0.3  # of those photos: their first requests fail


@dataclass
class Plan:
    """The messages in sending order, and the items that must be stored at the end.

    `edited` items have a newer version and `without_event` items exist in the API, once all events
    are finished. `deleted` maps items that the API never knows to their events.
    """

    messages: list[Message]
    expected: dict[str, bytes]
    edited: list[catalogue.Item]
    without_event: list[catalogue.Item]
    deleted: dict[str, str]


# Lists of the report that must be empty.
FAILURES = (
    "lost",
    "wrong",
    "unfinished",
    "never_accepted",
    "wrong_counts",
    "wrong_rows",
    "missing_photos",
)


@dataclass
class Report:
    """The result of a run."""

    pubsub: str
    seed: int
    events: int
    accepted: int
    sends: int
    items: int
    lost: list[str]
    wrong: list[str]
    unfinished: list[str]
    never_accepted: list[str]
    repeated_writes: int
    api_calls_per_item: float
    dead_letters: int
    kills: int
    refused_writes: int
    lost_answers: int
    discarded: int
    reconciles: int
    wrong_counts: list[str]
    versions: int
    wrong_rows: list[str]
    photos: int
    missing_photos: list[str]
    seconds: float
    most_attempts: int

    @property
    def is_clean(self) -> bool:
        return not any(getattr(self, name) for name in FAILURES)


@dataclass
class _Run:
    stack: Stack
    api: DimmyApi
    storage: CloudStorage
    plan: Plan
    rng: random.Random
    sends: int = 0
    kills: int = 0
    reconciles: int = 0
    wrong_counts: list[str] = field(default_factory=list)


def main() -> int:
    never_use_for_loopback()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=2000)
    arguments = parser.parse_args()
    console = open_console()
    try:
        kind = pubsub_kind(os.environ)
        report = run_chaos(kind, arguments.seed, arguments.events, console)
    except (ValueError, MissingEmulatorError, StartError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 2
    console.print(as_table(report))
    for name in FAILURES:
        for object_id in getattr(report, name)[:10]:
            console.print(f"{name}: {object_id}", style="red", markup=False)
    return 0 if report.is_clean else 1


def run_chaos(kind: PubSubKind, seed: int, events: int, console: Console) -> Report:
    """One run. The seed determines the messages, but not the exact timing of the faults."""
    started = time.monotonic()
    rng = random.Random(seed)
    storage = CloudStorage()
    with contextlib.ExitStack() as cleanup:
        folder = cleanup.enter_context(tempfile.TemporaryDirectory())
        stack = cleanup.enter_context(
            start_stack(
                Path(folder),
                pubsub=kind,
                cloud_storage=storage,
                settings={"LOG_LEVEL": "ERROR", "DIMMY_TIMEOUT_SECONDS": "3"},
                backoff_seconds=None if kind == "google" else (0.2, 2.0),
                max_delivery_attempts=100,
                sender_speed=SPEED,
                attempt_reset_share=ATTEMPT_RESET_SHARE,
                repeat_share=REPEAT_SHARE,
                warehouse=True,
                photos=True,
            )
        )
        assert stack.api
        plan = make_plan(stack.api, rng, events)
        run = _Run(stack, stack.api, storage, plan, rng)
        for fault in FAULTS:
            stack.api.fail(fault)
        stack.api.latency = lambda: random.uniform(0.0, 0.03)
        _delay_photos(stack.api, plan, rng)
        storage.fail_writes(STORAGE_ERROR_SHARE, seed, LOST_ANSWER_SHARE)
        stack.background.run(_send_during_faults(run, console))
        stack.api.clear_faults()
        storage.fail_writes(0.0, seed)
        dead_letters = _redrive_dead_letters(run)
        stack.background.run(_wait_for_remaining_events(run, console))
        _reconcile(run, seed)
        return _compare(run, kind, seed, dead_letters, time.monotonic() - started)


def _delay_photos(api: DimmyApi, plan: Plan, rng: random.Random) -> None:
    """Let the first requests for some photos fail."""
    for line in plan.expected.values():
        for photo in photos_of(json.loads(line)):
            name = str(photo.address).removeprefix(api.photo_url_prefix)
            if name != photo.address and rng.random() < LATE_PHOTOS_SHARE:
                status = rng.choice([403, 404, 500])
                api.photos.fail(PhotoFault(status=status, name=name, times=rng.randint(1, 3)))


def _make_item(api: DimmyApi, rng: random.Random) -> catalogue.Item:
    if rng.random() < PHOTOGRAPHED_SHARE:
        return catalogue.make_item(rng, photo_url_prefix=api.photo_url_prefix)
    return catalogue.make_item(rng)


def make_plan(api: DimmyApi, rng: random.Random, events: int) -> Plan:
    """Events of both types with about ten items each, a tenth of them twice, in random order."""
    expected: dict[str, bytes] = {}
    messages: list[Message] = []
    edited: list[catalogue.Item] = []
    deleted: dict[str, str] = {}

    def new_item() -> catalogue.Item:
        item = _make_item(api, rng)
        expect(item)
        return item

    def expect(item: catalogue.Item) -> None:
        item_id = api.put(item)
        expected[item_id] = api.body_of(item_id)

    for _ in range(events):
        if rng.random() < 0.15:
            item = new_item()
            messages.append(new_message(api.body_of(item["_id"])))
            continue
        items = [new_item() for _ in range(rng.randint(1, 23))]
        item_ids = [item["_id"] for item in items]
        messages.append(new_message({"item_ids": item_ids}))
        if rng.random() < DELETED_SHARE:
            deleted_id = catalogue.new_id(rng)
            messages[-1] = new_message({"item_ids": [*item_ids, deleted_id]})
            deleted[deleted_id] = messages[-1].message_id
        elif rng.random() < 0.05:
            edited.append(items[-1])
        elif rng.random() < 0.05:  # plus an event with an older version of an item
            expect(catalogue.updated(items[0], flow_id="Corrected"))
            messages.append(new_message(items[0]))
    messages += rng.sample(messages, len(messages) // 10)
    rng.shuffle(messages)
    without_event = [_make_item(api, rng) for _ in range(round(events * WITHOUT_EVENT_SHARE))]
    return Plan(messages, expected, edited, without_event, deleted)


async def _send_during_faults(run: _Run, console: Console) -> None:
    """Send all messages while functions are killed and Pub/Sub is unreachable."""
    assert run.stack.archive
    faults = [
        asyncio.create_task(_keep_killing(run, run.stack.resolve, KILL_EVERY_SECONDS)),
        asyncio.create_task(_keep_killing(run, run.stack.receive, 2.2 * KILL_EVERY_SECONDS)),
        asyncio.create_task(_keep_killing(run, run.stack.archive, 1.7 * KILL_EVERY_SECONDS)),
        asyncio.create_task(_interrupt_pubsub(run)),
    ]
    senders = asyncio.Semaphore(SENDERS)

    async def send(message: Message) -> None:
        async with senders:
            await asyncio.sleep(run.rng.uniform(0, 2 * SEND_INTERVAL_SECONDS))
        run.sends += 1
        copy = Message(message.message_id, message.body)
        await run.stack.sender.deliver(copy)
        message.attempts += copy.attempts

    with _progress(console) as progress:
        bar = progress.add_task("sending", total=len(run.plan.messages), note="")
        deliveries = [asyncio.create_task(send(message)) for message in run.plan.messages]
        while not all(delivery.done() for delivery in deliveries):
            await asyncio.wait(deliveries, timeout=1.0)
            done = sum(delivery.done() for delivery in deliveries)
            progress.update(bar, completed=done, note=f"{run.kills} kills")
        await asyncio.gather(*deliveries)
        await _watch_storage(run, progress, until_share=0.97, stall_seconds=20.0)
    for task in faults:
        task.cancel()
    await asyncio.gather(*faults, return_exceptions=True)
    await run.stack.relay.start()
    for function in (run.stack.resolve, run.stack.receive, run.stack.archive):
        if not function.process.is_running:
            function.start()
        await asyncio.to_thread(function.wait_until_up)


async def _keep_killing(run: _Run, function: Function, every: float) -> None:
    pause = 0.3 * every  # shorter the first time, so that a short run includes kills, too
    while True:
        await asyncio.sleep(pause)
        pause = run.rng.uniform(0.6, 1.4) * every
        await asyncio.to_thread(function.kill)
        run.kills += 1
        await asyncio.sleep(run.rng.uniform(0.0, 0.5))
        function.start()


async def _interrupt_pubsub(run: _Run) -> None:
    await asyncio.sleep(2 * KILL_EVERY_SECONDS)
    await run.stack.relay.cut()
    try:
        await asyncio.sleep(OUTAGE_SECONDS)
    finally:
        await run.stack.relay.start()


def _redrive_dead_letters(run: _Run) -> int:
    """Re-drive the dead letters after the faults have ended; return their number.

    Google's emulator redelivers without a backoff, so a message soon uses up its 100 attempts.
    """
    dead_letters = SandboxDeadLetters(run.stack.admin.host, run.stack.resolve.url)
    count = len(dead_letters.event_ids())
    dead_letters.push()
    return count


async def _discard_deleted_items(run: _Run) -> None:
    """Give up the items that the API does not know, as `make discard` does, until it is cancelled.

    A resend that is resolved later asks for all items again, so they are given up again.
    """
    store = Store(StorageSettings(f"gs://{BUCKET}", run.storage.url))
    while True:
        for item_id, event_id in run.plan.deleted.items():
            if _outcome(run.storage, event_id) == "partial":
                await asyncio.to_thread(store.discard_items, event_id, [item_id], "make chaos")
        await asyncio.sleep(0.5)


def _reconcile(run: _Run, seed: int) -> None:
    """Let `reconcile` store what no event has announced, and check its counts."""
    for item in run.plan.edited:
        _expect(run, catalogue.updated(item, flow_id="Edited"))
    for item in run.plan.without_event:
        _expect(run, item)
    before = dict(run.storage.objects)
    function = Function(
        "reconcile",
        {name: run.stack.resolve.settings[name] for name in _RECONCILE_SETTINGS}
        | {"LOG_LEVEL": "ERROR"},
    )
    function.wait_until_up()
    for fault in FAULTS:
        run.api.fail(fault)
    run.storage.fail_writes(STORAGE_ERROR_SHARE, seed, LOST_ANSWER_SHARE)
    # Stored items that disappear from the API stay stored.
    awaited = {item["_id"] for item in (*run.plan.edited, *run.plan.without_event)}
    stored = sorted(run.plan.expected.keys() - awaited)
    deletable = iter(run.rng.sample(stored, len(stored) // 100))

    def delete_now_and_then() -> float:
        if run.rng.random() < 0.2 and (item_id := next(deletable, "")):
            run.api.delete(item_id)
        return run.rng.uniform(0.0, 0.03)

    run.api.latency = delete_now_and_then
    counts: Counter[str] = Counter()
    answer: dict[str, Any] = {}
    status = 0
    try:
        while status != 200 and run.reconciles < MAX_RECONCILES:
            run.reconciles += 1
            response = requests.post(function.url, params={"hours": 48}, timeout=600)
            status, answer = response.status_code, response.json()
            counts.update({name: answer.get(name, 0) for name in COUNTS})
    finally:
        function.stop()
        run.api.clear_faults()
        run.storage.fail_writes(0.0, seed)
    if status != 200:
        run.wrong_counts.append(f"reconcile: the last answer is {status} {answer}")
    _check_counts(run, before, counts)


def _expect(run: _Run, item: catalogue.Item) -> None:
    item_id = run.api.put(item)
    run.plan.expected[item_id] = run.api.body_of(item_id)


def _check_counts(run: _Run, before: dict[str, StoredObject], counts: "Counter[str]") -> None:
    items = {n: o for n, o in run.storage.objects.items() if n.startswith(f"{BUCKET}/items/")}
    created = sum(name not in before for name in items)
    replaced = sum(
        name in before and before[name].content != stored.content for name, stored in items.items()
    )
    handled = sum(counts[name] for name in COUNTS if name != "seen")
    for name, counted, actual in (
        ("stored", counts["stored"], created),
        ("updated", counts["updated"], replaced),
        ("seen", counts["seen"], handled),
    ):
        if counted != actual:
            run.wrong_counts.append(f"reconcile: {name} is {counted} and should be {actual}")


async def _wait_for_remaining_events(run: _Run, console: Console) -> None:
    discarding = asyncio.create_task(_discard_deleted_items(run))
    with _progress(console) as progress:
        await _watch_storage(run, progress, until_share=1.0, stall_seconds=STALL_SECONDS)
    discarding.cancel()
    await asyncio.gather(discarding, return_exceptions=True)


async def _watch_storage(
    run: _Run, progress: Progress, until_share: float, stall_seconds: float
) -> None:
    """Return when this share of the events is finished, or after a time without progress."""
    event_ids = {message.message_id for message in run.plan.messages if message.delivered}
    bar = progress.add_task("resolving", total=len(event_ids), note="")
    most_done, deadline = -1, time.monotonic() + stall_seconds
    while time.monotonic() < deadline:
        done = sum(_outcome(run.storage, event_id) == "done" for event_id in event_ids)
        items = run.storage.count(f"{BUCKET}/items/")
        progress.update(bar, completed=done, note=f"{items} items, {run.kills} kills")
        if done >= until_share * len(event_ids):
            return
        if done > most_done:
            most_done, deadline = done, time.monotonic() + stall_seconds
        await asyncio.sleep(0.5)


def _stored_items(run: _Run) -> dict[str, bytes]:
    prefix = f"{BUCKET}/items/"
    return {
        name.removeprefix(prefix).removesuffix(".json"): item.content
        for name, item in run.storage.objects.items()
        if name.startswith(prefix)
    }


def _wait_until_empty(find: Callable[[], list[str]]) -> list[str]:
    """Call `find` until it returns nothing or VIEW_SECONDS are over; its last result."""
    deadline = time.monotonic() + VIEW_SECONDS
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _wait_for_view(run: _Run) -> list[str]:
    """Wait until the view equals the bucket; return the ids of items whose row is wrong."""
    warehouse = run.stack.warehouse
    assert warehouse
    stored = _stored_items(run)
    return _wait_until_empty(lambda: wrong_rows(warehouse, stored))


def _wait_for_photos(run: _Run) -> list[str]:
    """Wait until all photos are stored; return the names of those that are not."""
    items = _stored_items(run)

    def find_missing() -> list[str]:
        objects = {
            name.removeprefix(f"{BUCKET}/"): stored.content
            for name, stored in run.storage.objects.items()
        }
        return missing_photos(items, objects, run.api)

    return _wait_until_empty(find_missing)


def _versions(run: _Run) -> int:
    """The number of rows from which the view takes the newest versions."""
    assert run.stack.warehouse
    ((count,),) = run.stack.warehouse.query("SELECT COUNT(*) FROM item_versions").rows
    return int(count)


def _compare(run: _Run, kind: str, seed: int, dead_letters: int, seconds: float) -> Report:
    accepted = {m.message_id for m in run.plan.messages if m.delivered}
    all_ids = {m.message_id for m in run.plan.messages}
    stored = {item_id: _item(run.storage, item_id) for item_id in run.plan.expected}
    fetches = [s for s in run.api.requests if s.path.startswith("/items/")]
    receipts = [_receipt(run.storage, event_id) for event_id in accepted]
    return Report(
        pubsub=kind,
        seed=seed,
        events=len(all_ids),
        accepted=len(accepted),
        sends=run.sends,
        items=len(run.plan.expected),
        lost=[item_id for item_id, body in stored.items() if body is None],
        wrong=[i for i, body in stored.items() if body not in {None, run.plan.expected[i]}],
        unfinished=_describe_unfinished(run, accepted),
        never_accepted=sorted(all_ids - accepted),
        repeated_writes=run.storage.repeated_writes,
        api_calls_per_item=len(fetches) / len(run.plan.expected),
        dead_letters=dead_letters,
        kills=run.kills,
        refused_writes=run.storage.refused,
        lost_answers=run.storage.lost_answers,
        discarded=len(run.plan.deleted),
        reconciles=run.reconciles,
        wrong_counts=run.wrong_counts,
        wrong_rows=_wait_for_view(run),
        versions=_versions(run),
        missing_photos=_wait_for_photos(run),
        photos=run.storage.count(f"{BUCKET}/photos/"),
        seconds=seconds,
        most_attempts=max((r.get("attempts", 0) for r in receipts), default=0),
    )


def _describe_unfinished(run: _Run, event_ids: set[str]) -> list[str]:
    """The events that are not finished, with their receipts, and where their messages are."""
    unfinished = {each for each in event_ids if _outcome(run.storage, each) != "done"}
    places = _places(run, unfinished)
    described = []
    for event_id in sorted(unfinished):
        receipt = _receipt(run.storage, event_id)
        states = Counter(str(state) for state in receipt.get("items", {}).values())
        place = places.get(event_id, "nowhere")
        described.append(
            f"{event_id}: {_outcome(run.storage, event_id)}, {receipt.get('attempts', 0)} attempts,"
            f" {dict(states)}; its message is {place}"
        )
    return described


def _places(run: _Run, event_ids: set[str]) -> dict[str, str]:
    """The subscriptions that have messages of these events."""
    places: dict[str, str] = {}
    subscriptions = (RESOLVE, DEAD_LETTERS)
    if event_ids:
        for subscription in subscriptions:
            run.stack.admin.modify_push_config(subscription, "")
    deadline = time.monotonic() + LEASE_SECONDS
    while event_ids - places.keys() and time.monotonic() < deadline:
        for subscription in subscriptions:
            for pulled in run.stack.admin.pull(subscription, count=1000, timeout=3):
                event_id = event_id_of(pulled.attributes, pulled.message_id)
                places[event_id] = f"in the subscription {subscription}"
    return places


def as_table(report: Report) -> Table:
    """The report as a table for the terminal."""
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "Pub/Sub, seed": f"{report.pubsub}, {report.seed}",
        "events, items": f"{report.events}, {report.items} ({report.sends} sends)",
        "events accepted": str(report.accepted),
        "events never accepted": str(len(report.never_accepted)),
        "items lost": str(len(report.lost)),
        "items wrong": str(len(report.wrong)),
        "events accepted but not finished": str(len(report.unfinished)),
        "repeated writes of an item": str(report.repeated_writes),
        "API calls per item": f"{report.api_calls_per_item:.2f}",
        "dead letters, re-driven at the end": str(report.dead_letters),
        "processes killed": str(report.kills),
        "writes refused by storage": str(report.refused_writes),
        "writes whose answer was lost": str(report.lost_answers),
        "items discarded": str(report.discarded),
        "runs of reconcile": str(report.reconciles),
        "wrong counts of reconcile": str(len(report.wrong_counts)),
        "rows of versions": str(report.versions),
        "wrong rows of the view": str(len(report.wrong_rows)),
        "photos stored, missing": f"{report.photos}, {len(report.missing_photos)}",
        "most attempts of one event": str(report.most_attempts),
        "seconds": f"{report.seconds:.0f}",
        "result": "nothing was lost" if report.is_clean else "SOMETHING WAS LOST",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _item(storage: CloudStorage, item_id: str) -> bytes | None:
    stored = storage.objects.get(f"{BUCKET}/items/{item_id}.json")
    return stored.content if stored else None


def _receipt(storage: CloudStorage, event_id: str) -> dict[str, Any]:
    stored = storage.objects.get(f"{BUCKET}/events/{event_id}.json")
    receipt: dict[str, Any] = json.loads(stored.content) if stored else {}
    return receipt


def _outcome(storage: CloudStorage, event_id: str) -> str:
    stored = storage.objects.get(f"{BUCKET}/events/{event_id}.json")
    if stored is None:
        return "no receipt"
    # The outcome is in the first 400 bytes. Searching only those makes it cheap to check thousands
    # of receipts twice a second.
    return "done" if b'"outcome":"done"' in stored.content[:400] else "partial"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
    )


if __name__ == "__main__":
    sys.exit(main())
