"""End to end: the time from the first byte of a webhook until its items are stored, or are rows."""

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.load import Load, Result, item_ids, percentile
from bench.processes import REFERENCES, TOPIC, Bench, send
from bench.report import Section, Target
from sandbox.bigquery_rows import Row
from sandbox.pubsub_admin import PROJECT, topic_path
from sandbox.warehouse import ITEM_VERSIONS, WAREHOUSE_FILE, Warehouse

ITEMS = 5
LATENCY_SECONDS = 0.05
_DRAIN_SECONDS = 60.0
_ITEMS_TOPIC = "items"

# The time at which an item is there, in nanoseconds since 1970; None while it is not.
There = Callable[[str], int | None]


def measure(quick: bool, say: Callable[[str], None]) -> list[Section]:
    """Compare this software with the design of the vendor's sample, at several rates."""
    section = Section(
        "End to end: events of 5 items, the API responds after 50 ms",
        "The time from the first byte of the webhook to the modification time of its last item's"
        " file. Both functions run on one core, everything else on the other. One process of"
        " resolve handles 8 events at a time, as deployed, so at most 160 a second (Cloud Run would"
        " start another instance). Ours uses the sandbox's own Pub/Sub, because Google's emulator"
        " takes longer to push than everything else together. Inline: verify, fetch and store while"
        " the sender waits, with 8 threads, as in the vendor's sample. Late: no response within 15"
        " s, the timeout of Svix. To the row of the view: until the last item's row is in DuckDB,"
        " by way of resolve's publish, Pub/Sub and the sandbox's BigQuery subscription.",
        ("", "events/s", "seconds", "p50 ms", "p99 ms", "stored", "late"),
    )
    p50_at_50 = row_at_50 = math.nan
    for rate, seconds in ((50, 3),) if quick else ((1, 6), (50, 20), (200, 8)):
        say(f"{rate} events a second, ours")
        p50 = _ours(section, rate, seconds, own_pubsub=True)
        if rate == 50:
            p50_at_50 = p50
        if rate == 50:
            say(f"{rate} events a second, ours, to the row of the view")
            row_at_50 = _to_the_row(section, rate, seconds)
        if not quick and rate == 50:
            say(f"{rate} events a second, ours over Google's emulator")
            _ours(section, rate, 6, own_pubsub=False)
        say(f"{rate} events a second, inline")
        with Bench(own_pubsub=True) as bench:
            bench.start_api(LATENCY_SECONDS)
            inline = bench.start("inline", REFERENCES / "inline.py", THREADS="8")
            inline.wait_until_up()
            _add(section, "inline", rate, _run(bench, inline.url, rate, seconds, _file(bench)))
    section.targets = [
        Target("end to end at 50 events/s: p50", p50_at_50 * 1000, 120, "ms", highest=True),
        Target("POST to the row at 50 events/s: p99", row_at_50 * 1000, 250, "ms", highest=True),
    ]
    return [section]


def _ours(section: Section, rate: int, seconds: int, *, own_pubsub: bool) -> float:
    """Measure the two functions; return the p50 in seconds."""
    with Bench(own_pubsub=own_pubsub) as bench:
        bench.start_api(LATENCY_SECONDS)
        receive, resolve = bench.start("receive"), bench.start("resolve", THREADS="8")
        receive.wait_until_up()
        resolve.wait_until_up()
        bench.admin.create_subscription(
            "resolve", TOPIC, push_endpoint=resolve.url, ack_deadline_seconds=60
        )
        name = "ours" if own_pubsub else f"ours, {bench.pubsub_name}"
        outcome = _run(bench, f"{receive.url}webhook", rate, seconds, _file(bench))
    _add(section, name, rate, outcome)
    return percentile(outcome[2], 50)


class TimedTables:
    """Tables that note when each item first had a row."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self.written: dict[str, int] = {}  # nanoseconds since 1970, by item id

    def has_table(self, table: str) -> bool:
        return self._warehouse.has_table(table)

    def write(self, table: str, rows: Sequence[Row]) -> None:
        self._warehouse.write(table, rows)
        now = time.time_ns()
        for row in rows:
            self.written.setdefault(json.loads(row.attributes)["item-id"], now)


def _to_the_row(section: Section, rate: int, seconds: int) -> float:
    """Measure the two functions and the items topic; return the p99 in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse(Path(folder) / WAREHOUSE_FILE)
        warehouse.create()
        tables = TimedTables(warehouse)
        with Bench(own_pubsub=True, tables=tables) as bench:
            outcome = run_to_the_row(bench, tables, rate, seconds)
        _add(section, "ours, to the row of the view", rate, outcome)
        # A row that was written is one that the view shows.
        ((shown,),) = warehouse.query("SELECT COUNT(*) FROM items").rows
        if shown != len(tables.written):
            raise RuntimeError(f"{len(tables.written)} items were written, the view has {shown}")
    return percentile(outcome[2], 99)


def run_to_the_row(
    bench: Bench, tables: TimedTables, rate: int, seconds: int
) -> tuple[int, Result, list[float]]:
    """Send events for this time and wait until all their items are rows."""
    bench.start_api(LATENCY_SECONDS)
    bench.admin.create_topic(_ITEMS_TOPIC)
    bench.admin.create_subscription(
        _ITEMS_TOPIC, _ITEMS_TOPIC, bigquery_table=f"{PROJECT}.bench.{ITEM_VERSIONS}"
    )
    receive = bench.start("receive")
    resolve = bench.start("resolve", THREADS="8", ITEMS_TOPIC=topic_path(_ITEMS_TOPIC))
    receive.wait_until_up()
    resolve.wait_until_up()
    bench.admin.create_subscription(
        "resolve", TOPIC, push_endpoint=resolve.url, ack_deadline_seconds=60
    )
    return _run(bench, f"{receive.url}webhook", rate, seconds, tables.written.get)


def _file(bench: Bench) -> There:
    """When the file of an item was written."""
    folder = bench.folder / "stored" / "items"

    def written(item_id: str) -> int | None:
        path = folder / f"{item_id}.json"
        return path.stat().st_mtime_ns if path.exists() else None

    return written


def _run(
    bench: Bench, url: str, rate: int, seconds: int, there: There
) -> tuple[int, Result, list[float]]:
    """Send events for this time and wait until everything is there."""
    send(Load(url, bench.secret, 1, rate=2, items=ITEMS))  # the first requests open connections
    load = Load(url, bench.secret, seconds, rate=rate, items=ITEMS)
    result = send(load)
    return seconds, result, _latencies(load, result, there)


def _add(section: Section, name: str, rate: int, outcome: tuple[int, Result, list[float]]) -> None:
    seconds, result, latencies = outcome
    section.rows.append(
        (
            name,
            str(rate),
            str(seconds),
            percentile(latencies, 50) * 1000,
            percentile(latencies, 99) * 1000,
            f"{sum(map(math.isfinite, latencies))} of {len(latencies)}",
            str(result.statuses.get("timeout", 0)),
        )
    )


def _latencies(load: Load, result: Result, there: There) -> list[float]:
    """The seconds until the last item of each event was there; infinite if one never was."""
    give_up = time.monotonic() + _DRAIN_SECONDS
    latencies = []
    for number, sent in enumerate(result.sent):
        last = 0.0
        for item_id in item_ids(load.token, number, ITEMS):
            while (written := there(item_id)) is None and time.monotonic() < give_up:
                time.sleep(0.05)
            last = max(last, math.inf if written is None else (written - sent) / 1e9)
        latencies.append(last)
    return latencies
