"""End to end: the time from the first byte of a webhook until its items are stored."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from bench.load import Load, Result, item_ids, percentile
from bench.processes import REFERENCES, TOPIC, Bench, send
from bench.report import Section, Target

ITEMS = 5
LATENCY_SECONDS = 0.05
_DRAIN_SECONDS = 60.0


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
        " s, the timeout of Svix.",
        ("", "events/s", "seconds", "p50 ms", "p99 ms", "stored", "late"),
    )
    p50_at_50 = math.nan
    for rate, seconds in ((50, 3),) if quick else ((1, 6), (50, 20), (200, 8)):
        say(f"{rate} events a second, ours")
        p50 = _ours(section, rate, seconds, own_pubsub=True)
        if rate == 50:
            p50_at_50 = p50
        if not quick and rate == 50:
            say(f"{rate} events a second, ours over Google's emulator")
            _ours(section, rate, 6, own_pubsub=False)
        say(f"{rate} events a second, inline")
        with Bench(own_pubsub=True) as bench:
            bench.start_api(LATENCY_SECONDS)
            inline = bench.start("inline", REFERENCES / "inline.py", THREADS="8")
            inline.wait_until_up()
            _add(section, "inline", rate, _run(bench, inline.url, rate, seconds))
    section.targets = [
        Target("end to end at 50 events/s: p50", p50_at_50 * 1000, 120, "ms", highest=True)
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
        outcome = _run(bench, f"{receive.url}webhook", rate, seconds)
    _add(section, name, rate, outcome)
    return percentile(outcome[2], 50)


def _run(bench: Bench, url: str, rate: int, seconds: int) -> tuple[int, Result, list[float]]:
    """Send events for this time and wait until everything is stored."""
    send(Load(url, bench.secret, 1, rate=2, items=ITEMS))  # the first requests open connections
    load = Load(url, bench.secret, seconds, rate=rate, items=ITEMS)
    result = send(load)
    return seconds, result, _latencies(load, result, bench.folder / "stored" / "items")


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


def _latencies(load: Load, result: Result, items: Path) -> list[float]:
    """The seconds until the last item of each event was stored; infinite if one never was."""
    give_up = time.monotonic() + _DRAIN_SECONDS
    latencies = []
    for number, sent in enumerate(result.sent):
        last = 0.0
        for item_id in item_ids(load.token, number, ITEMS):
            path = items / f"{item_id}.json"
            while not path.exists() and time.monotonic() < give_up:
                time.sleep(0.05)
            written = path.stat().st_mtime_ns if path.exists() else math.inf
            last = max(last, (written - sent) / 1e9)
        latencies.append(last)
    return latencies
