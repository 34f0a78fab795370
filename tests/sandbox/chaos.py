"""`make chaos`: thousands of events while everything breaks, and then a look at what was lost.

The API answers with errors, pauses, cut connections and nonsense; storage refuses writes; both
functions are killed every few seconds; Pub/Sub goes out of reach. The sender climbs Svix's ladder
on a fast clock. At the end everything that was sent is compared with what lies in storage, item by
item and byte by byte. Exit status 0 when nothing is lost, wrong or unaccounted for; 1 otherwise.
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
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from operate.console import open_console
from sandbox import catalogue
from sandbox.cloud_storage import CloudStorage
from sandbox.dimmy_api import DimmyApi, Fault
from sandbox.functions import Function
from sandbox.google_pubsub import MissingEmulatorError
from sandbox.installation import SandboxDeadLetters
from sandbox.processes import StartError
from sandbox.stack import PubSubKind, Stack, pubsub_kind, start_stack
from sandbox.svix_sender import Message, new_message

SPEED = 100.0  # of the ladder's clock
KILL_EVERY_SECONDS = 5.0
OUTAGE_SECONDS = 5.0
STORAGE_REFUSALS = 0.01
SENDERS = 24
PACE_SECONDS = 0.6  # between two messages of a sender, on average
PATIENCE_SECONDS = 120.0  # without progress
BUCKET = "scans"

FAULTS = (
    Fault(status=500, share=0.10),
    Fault(status=503, share=0.11),  # of the rest, so that both together are 20 %
    Fault(status=429, retry_after="0", share=0.05 / 0.80),
    Fault("cut", share=0.03 / 0.75),
    Fault("truncated", share=0.02 / 0.72),
)


@dataclass
class Plan:
    """What is sent, in this order, and what has to lie in storage in the end."""

    messages: list[Message]
    expected: dict[str, bytes]


@dataclass
class Report:
    """What came of it."""

    pubsub: str
    seed: int
    events: int
    accepted: int
    sends: int
    items: int
    lost: list[str]
    wrong: list[str]
    unaccounted: list[str]
    never_accepted: list[str]
    repeated_writes: int
    api_calls_per_item: float
    dead_letters: int
    kills: int
    refused_writes: int
    seconds: float
    most_attempts: int

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.wrong or self.unaccounted or self.never_accepted)


@dataclass
class _Run:
    stack: Stack
    api: DimmyApi
    storage: CloudStorage
    plan: Plan
    chance: random.Random
    sends: int = 0
    kills: int = 0


def main() -> int:
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
    for name in ("lost", "wrong", "unaccounted", "never_accepted"):
        for what in getattr(report, name)[:10]:
            console.print(f"{name}: {what}", style="red", markup=False)
    return 0 if report.is_clean else 1


def run_chaos(kind: PubSubKind, seed: int, events: int, console: Console) -> Report:
    """One run, the same plan for the same seed (what breaks when depends on the machine, too)."""
    started = time.monotonic()
    chance = random.Random(seed)
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
            )
        )
        assert stack.api
        plan = make_plan(stack.api, chance, events)
        run = _Run(stack, stack.api, storage, plan, chance)
        for fault in FAULTS:
            stack.api.fail(fault)
        stack.api.latency = lambda: random.uniform(0.0, 0.03)
        storage.refuse_share(STORAGE_REFUSALS, seed)
        stack.background.run(_live_through(run, console))
        stack.api.mend()
        storage.refuse_share(0.0, seed)
        parked = _redrive_what_is_parked(run)
        stack.background.run(_wait_for_the_rest(run, console))
        return _compare(run, kind, seed, parked, time.monotonic() - started)


def make_plan(api: DimmyApi, chance: random.Random, events: int) -> Plan:
    """Events of about ten items each, both types, a tenth of them twice, in no order."""
    expected: dict[str, bytes] = {}
    messages: list[Message] = []

    def new_item() -> catalogue.Item:
        item = catalogue.make_item(chance)
        expect(item)
        return item

    def expect(item: catalogue.Item) -> None:
        item_id = api.put(item)
        expected[item_id] = api.body_of(item_id)

    for _ in range(events):
        if chance.random() < 0.15:
            item = new_item()
            messages.append(new_message(api.body_of(item["_id"])))
            continue
        items = [new_item() for _ in range(chance.randint(1, 23))]
        messages.append(new_message({"item_ids": [item["_id"] for item in items]}))
        if chance.random() < 0.05:  # an event that tells of an older state of one of them
            expect(catalogue.updated(items[0], flow_id="Corrected"))
            messages.append(new_message(items[0]))
    messages += chance.sample(messages, len(messages) // 10)
    chance.shuffle(messages)
    return Plan(messages, expected)


async def _live_through(run: _Run, console: Console) -> None:
    """Send everything while everything breaks."""
    breaking = [
        asyncio.create_task(_keep_killing(run, run.stack.resolve, KILL_EVERY_SECONDS)),
        asyncio.create_task(_keep_killing(run, run.stack.receive, 2.2 * KILL_EVERY_SECONDS)),
        asyncio.create_task(_cut_off_pubsub(run)),
    ]
    pace = asyncio.Semaphore(SENDERS)

    async def send(message: Message) -> None:
        async with pace:
            await asyncio.sleep(run.chance.uniform(0, 2 * PACE_SECONDS))
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
        await _watch_storage(run, progress, until_share=0.97, patience=20.0)
    for task in breaking:
        task.cancel()
    await asyncio.gather(*breaking, return_exceptions=True)
    await run.stack.relay.start()
    for function in (run.stack.resolve, run.stack.receive):
        if not function.process.is_running:
            function.start()
        await asyncio.to_thread(function.wait_until_up)


async def _keep_killing(run: _Run, function: Function, every: float) -> None:
    pause = 0.3 * every  # the first time soon, so that a short run has its share
    while True:
        await asyncio.sleep(pause)
        pause = run.chance.uniform(0.6, 1.4) * every
        await asyncio.to_thread(function.kill)
        run.kills += 1
        await asyncio.sleep(run.chance.uniform(0.0, 0.5))
        function.start()


async def _cut_off_pubsub(run: _Run) -> None:
    await asyncio.sleep(2 * KILL_EVERY_SECONDS)
    await run.stack.relay.cut()
    try:
        await asyncio.sleep(OUTAGE_SECONDS)
    finally:
        await run.stack.relay.start()


def _redrive_what_is_parked(run: _Run) -> int:
    """Do as `make redrive` does, now that all is mended; return how many dead letters there were.

    Google's emulator brings a message back at once, so that a hundred attempts are soon over.
    """
    letters = SandboxDeadLetters(run.stack.admin.host, run.stack.resolve.url)
    parked = len(letters.event_ids())
    letters.push()
    return parked


async def _wait_for_the_rest(run: _Run, console: Console) -> None:
    with _progress(console) as progress:
        await _watch_storage(run, progress, until_share=1.0, patience=PATIENCE_SECONDS)


async def _watch_storage(
    run: _Run, progress: Progress, until_share: float, patience: float
) -> None:
    """Until so many events have a finished receipt, or nothing has moved for a while."""
    event_ids = {message.message_id for message in run.plan.messages if message.delivered}
    bar = progress.add_task("resolving", total=len(event_ids), note="")
    best, give_up = -1, time.monotonic() + patience
    while time.monotonic() < give_up:
        done = sum(_outcome(run.storage, event_id) == "done" for event_id in event_ids)
        items = run.storage.count(f"{BUCKET}/items/")
        progress.update(bar, completed=done, note=f"{items} items, {run.kills} kills")
        if done >= until_share * len(event_ids):
            return
        if done > best:
            best, give_up = done, time.monotonic() + patience
        await asyncio.sleep(0.5)


def _compare(run: _Run, kind: str, seed: int, parked: int, seconds: float) -> Report:
    accepted = {m.message_id for m in run.plan.messages if m.delivered}
    all_ids = {m.message_id for m in run.plan.messages}
    stored = {item_id: _item(run.storage, item_id) for item_id in run.plan.expected}
    fetches = [s for s in run.api.seen if s.path.startswith("/items/")]
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
        unaccounted=[
            event_id for event_id in accepted if _outcome(run.storage, event_id) != "done"
        ],
        never_accepted=sorted(all_ids - accepted),
        repeated_writes=run.storage.repeated_writes,
        api_calls_per_item=len(fetches) / len(run.plan.expected),
        dead_letters=parked,
        kills=run.kills,
        refused_writes=run.storage.refused,
        seconds=seconds,
        most_attempts=max((r.get("attempts", 0) for r in receipts), default=0),
    )


def as_table(report: Report) -> Table:
    """The report for people."""
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "Pub/Sub, seed": f"{report.pubsub}, {report.seed}",
        "events, items": f"{report.events}, {report.items} ({report.sends} sends)",
        "accepted events": str(report.accepted),
        "never accepted": str(len(report.never_accepted)),
        "items lost": str(len(report.lost)),
        "items wrong": str(len(report.wrong)),
        "accepted but unaccounted events": str(len(report.unaccounted)),
        "writes of what was there already": str(report.repeated_writes),
        "API calls per item": f"{report.api_calls_per_item:.2f}",
        "dead letters, re-driven at the end": str(report.dead_letters),
        "processes killed": str(report.kills),
        "writes refused by storage": str(report.refused_writes),
        "most attempts at one event": str(report.most_attempts),
        "seconds": f"{report.seconds:.0f}",
        "verdict": "nothing was lost" if report.is_clean else "SOMETHING WAS LOST",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _item(storage: CloudStorage, item_id: str) -> bytes | None:
    stored = storage.objects.get(f"{BUCKET}/items/{item_id}.json")
    return stored.content if stored else None


def _receipt(storage: CloudStorage, event_id: str) -> dict[str, int]:
    stored = storage.objects.get(f"{BUCKET}/events/{event_id}.json")
    receipt: dict[str, int] = json.loads(stored.content) if stored else {}
    return receipt


def _outcome(storage: CloudStorage, event_id: str) -> str:
    stored = storage.objects.get(f"{BUCKET}/events/{event_id}.json")
    if stored is None:
        return "no receipt"
    # The receipt's head is enough, and reading thousands of them twice a second has to be cheap.
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
