"""resolve: time of an event, relative to the minimum set by the API's latency, and CPU time."""

import base64
import http.client
import json
import math
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from bench.load import event_id, item_ids
from bench.processes import (
    KEY,
    SERVERS,
    TESTS,
    Bench,
    cpu_seconds,
    on_core,
    resident_megabytes,
)
from bench.report import Section, Target
from sandbox.functions import Function

LATENCY_SECONDS = 0.05
CONCURRENCY = 32  # DIMMY_CONCURRENCY's default


def measure(quick: bool, say: Callable[[str], None]) -> list[Section]:
    """Measure one event at a time, beside plain `requests.get`, and many at a time."""
    with Bench() as bench:
        bench.start_api(LATENCY_SECONDS)
        server = bench.start("resolve", THREADS="8")
        server.wait_until_up()
        deliver(server, 1)  # the first event opens connections
        return [_one_event(bench, server, quick, say), _many_events(bench, server, quick, say)]


def deliver(server: Function, items: int) -> float:
    """Push one event as Pub/Sub does; return the seconds until it was acknowledged."""
    token = secrets.token_hex(4)
    body = json.dumps({"item_ids": item_ids(token, 0, items)}).encode()
    message = {
        "data": base64.b64encode(body).decode(),
        "messageId": "1",
        "attributes": {"svix-id": event_id(token, 0), "received-at": "2026-11-01T08:00:00Z"},
    }
    envelope = json.dumps({"message": message, "subscription": "s", "deliveryAttempt": 1})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    started = time.perf_counter()
    connection.request("POST", "/", envelope, {"Content-Type": "application/json"})
    response = connection.getresponse()
    said = response.read()
    seconds = time.perf_counter() - started
    connection.close()
    if response.status != 204:
        raise RuntimeError(f"resolve answered {response.status}: {said[:500]!r}")
    return seconds


def _one_event(bench: Bench, server: Function, quick: bool, say: Callable[[str], None]) -> Section:
    section = Section(
        "resolve: one event at a time, the API responds after 50 ms",
        "The minimum is ceil(items / 32) x 50 ms. Sequential: one plain `requests.get` after the"
        " other, as in the vendor's sample, on the same core.",
        (
            "items",
            "seconds",
            "ratio to the minimum",
            "sequential, s",
            "speedup",
            "CPU ms/item",
            "sequential CPU ms/item",
            "API calls/item",
        ),
    )
    by_items: dict[int, tuple[float, float, float, float]] = {}
    for items, rounds, plain_rounds in (
        (1, 20, 10),
        (10, 10, 3),
        (100, 7, 1 if quick else 2),
        *([] if quick else [(1000, 2, 0)]),
    ):
        say(f"events of {items} items")
        calls, cpu = bench.api_calls() or 0, cpu_seconds(server)
        seconds = median(deliver(server, items) for _ in range(rounds))
        cpu_each = (cpu_seconds(server) - cpu) / rounds / items
        calls_each = ((bench.api_calls() or 0) - calls) / rounds / items
        plain = [_one_by_one(bench, items) for _ in range(plain_rounds)]
        plain_seconds = median(took for took, _ in plain) if plain else math.nan
        plain_cpu = median(spent for _, spent in plain) / items if plain else math.nan
        floor = math.ceil(items / CONCURRENCY) * LATENCY_SECONDS
        by_items[items] = (seconds / floor, plain_seconds / seconds, cpu_each, plain_cpu)
        section.rows.append(
            (
                str(items),
                seconds,
                seconds / floor,
                plain_seconds,
                plain_seconds / seconds,
                cpu_each * 1000,
                plain_cpu * 1000,
                calls_each,
            )
        )
    of_floor, faster, cpu_each, plain_cpu = by_items[100]
    section.targets = [
        Target("resolve, 100 items: time relative to the minimum", of_floor, 1.12, highest=True),
        Target("resolve, 100 items: speedup over sequential requests", faster, 20),
        Target("resolve: CPU time per item", cpu_each * 1000, 1.0, "ms", highest=True),
        Target(
            "resolve: CPU time per item, relative to plain `requests.get`",
            cpu_each / plain_cpu,
            0.5,
            highest=True,
        ),
    ]
    return section


def _many_events(
    bench: Bench, server: Function, quick: bool, say: Callable[[str], None]
) -> Section:
    section = Section(
        "resolve: many events at a time in one process",
        "Events of 5 items, 8 at a time, as in a deployed instance.",
        ("events", "seconds", "items/s", "CPU ms/item", "API calls/item", "MB"),
    )
    for events in (100,) if quick else (100, 1000):
        say(f"{events} events, 8 at a time")
        calls, cpu, started = bench.api_calls() or 0, cpu_seconds(server), time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: deliver(server, 5), range(events)))
        seconds = time.perf_counter() - started
        items = events * 5
        section.rows.append(
            (
                str(events),
                seconds,
                items / seconds,
                (cpu_seconds(server) - cpu) / items * 1000,
                ((bench.api_calls() or 0) - calls) / items,
                resident_megabytes(server),
            )
        )
    return section


def _one_by_one(bench: Bench, items: int) -> tuple[float, float]:
    """Seconds and CPU seconds of fetching this many items sequentially."""
    ids = item_ids(secrets.token_hex(4), 0, items)
    with on_core(SERVERS):
        done = subprocess.run(
            [sys.executable, "-m", "bench.references.one_by_one", bench.api_url, KEY, *ids],
            capture_output=True,
            env=os.environ | {"PYTHONPATH": str(TESTS)},
            check=True,
        )
    seconds, cpu = json.loads(done.stdout)
    return seconds, cpu
