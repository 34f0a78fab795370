"""`reconcile`: it stores items whose webhook never arrived, and nothing else; it reports failures.

One of them: .venv/bin/pytest tests/reconcile/test_reconciler.py -k missing

ITEMS=50000 before the command makes that window larger.
"""

import itertools
import json
import math
import os
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import flask
import pytest
import requests
from werkzeug.test import EnvironBuilder

from pipeline import logs
from pipeline.dimmy import client
from pipeline.reconcile.pages import PAGE_ITEMS
from pipeline.reconcile.reconciler import Reconciler
from pipeline.reconcile.settings import read_reconcile_settings
from pipeline.reconcile.window import DEFAULT_LENGTH, WindowError, read_window
from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi, Fault
from support.reconciling import RunningReconcile

RNG = random.Random()
ITEMS = int(os.environ.get("ITEMS", "1000"))

pytestmark = pytest.mark.xdist_group("reconcile")


def test_it_stores_exactly_the_missing_items_page_by_page(reconcile: RunningReconcile) -> None:
    item_ids = reconcile.put(5, count=ITEMS)
    missing = set(RNG.sample(item_ids, ITEMS // 50))
    reconcile.store([item_id for item_id in item_ids if item_id not in missing])
    before = {p: p.stat().st_mtime_ns for p in (reconcile.folder / "items").iterdir()}
    reconcile.put(7)  # outside the window

    status, summary = reconcile.request(start_date="2026-01-05", end_date="2026-01-06")

    assert status == 200
    assert summary == {
        "seen": ITEMS,
        "stored": len(missing),
        "updated": 0,
        "unchanged": ITEMS - len(missing),
        "failed": 0,
    }
    assert reconcile.stored() == {i: reconcile.api.body_of(i) for i in item_ids}
    assert {p: p.stat().st_mtime_ns for p in before} == before, "another item was written"
    pages = math.ceil((ITEMS - 1) / (PAGE_ITEMS - 1))
    assert len(reconcile.api.requests) == pages + 2  # the last item, and nothing after it
    megabytes = [worker.memory_info().rss / 1e6 for worker in reconcile.function.workers]
    assert max(megabytes) < 110, "memory must not grow with the window"


def test_newer_items_replace_older_ones_and_never_the_reverse(reconcile: RunningReconcile) -> None:
    newer_in_storage, newer_in_api = reconcile.put(5, count=2)
    reconcile.store([newer_in_storage, newer_in_api])
    stored = json.loads(reconcile.api.body_of(newer_in_storage))
    newer = json.dumps(catalogue.updated(stored), separators=(",", ":")).encode()
    (reconcile.folder / "items" / f"{newer_in_storage}.json").write_bytes(newer)
    reconcile.api.put(catalogue.updated(json.loads(reconcile.api.body_of(newer_in_api))))

    _, summary = reconcile.request(start_date="2026-01-05", end_date="2026-01-06")

    assert summary == {"seen": 2, "stored": 0, "updated": 1, "unchanged": 1, "failed": 0}
    assert reconcile.stored() == {
        newer_in_storage: newer,
        newer_in_api: reconcile.api.body_of(newer_in_api),
    }


def test_an_empty_window_succeeds(reconcile: RunningReconcile) -> None:
    status, summary = reconcile.request(start_date="2026-01-05", end_date="2026-01-06")

    assert (status, summary["seen"]) == (200, 0)


def test_the_default_window_is_the_last_two_days(reconcile: RunningReconcile) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    fresh, old = (
        reconcile.api.put(
            catalogue.make_item(RNG) | {"created_at": (now - timedelta(hours=h)).isoformat()}
        )
        for h in (47, 49)
    )

    status, summary = reconcile.request()

    assert (status, summary["stored"]) == (200, 1)
    assert set(reconcile.stored()) == {fresh}
    assert old not in reconcile.stored()


def test_after_an_error_the_stored_items_stay_and_another_run_stores_the_rest(
    reconcile: RunningReconcile,
) -> None:
    item_ids = reconcile.put(5, count=2 * PAGE_ITEMS)
    reconcile.api.fail(Fault(status=500, after=1))

    status, summary = reconcile.request(start_date="2026-01-05", end_date="2026-01-06")

    assert status == 503
    assert (summary["error"], summary["seen"], summary["stored"]) == (
        "unfinished",
        PAGE_ITEMS,
        PAGE_ITEMS,
    )
    assert "500" in summary["message"]
    assert len(reconcile.stored()) == PAGE_ITEMS

    reconcile.api.clear_faults()
    status, summary = reconcile.request(start_date="2026-01-05", end_date="2026-01-06")

    assert (status, summary["stored"]) == (200, PAGE_ITEMS)
    assert set(reconcile.stored()) == set(item_ids)


def test_no_item_is_missed_when_others_are_created_while_it_pages(
    reconcile: RunningReconcile,
) -> None:
    item_ids = reconcile.put(5, hour=12, count=3 * PAGE_ITEMS)
    earlier_hours = iter(range(3))

    def insert_earlier_items() -> float:
        # The first three requests each find new items in front of those listed before.
        for hour in itertools.islice(earlier_hours, 1):
            reconcile.put(5, hour, count=3)
        return 0.0

    reconcile.api.latency = insert_earlier_items

    status, summary = reconcile.request(start_date="2026-01-05", end_date="2026-01-06")

    assert status == 200
    assert summary["seen"] >= len(item_ids)
    assert set(item_ids) <= set(reconcile.stored())


def test_overlapping_runs_store_each_item_once(reconcile: RunningReconcile) -> None:
    item_ids = reconcile.put(5, count=300)
    windows = [("2026-01-05", "2026-01-06")] * 2 + [("2026-01-04", "2026-01-07")]

    with ThreadPoolExecutor(3) as callers:
        responses = list(
            callers.map(lambda w: reconcile.request(start_date=w[0], end_date=w[1]), windows)
        )

    assert [status for status, _ in responses] == [200] * 3
    assert sum(summary["stored"] for _, summary in responses) == 300
    assert reconcile.stored() == {i: reconcile.api.body_of(i) for i in item_ids}


def test_an_item_that_cannot_be_stored_is_counted_as_failed(reconcile: RunningReconcile) -> None:
    (good,) = reconcile.put(5)
    reconcile.api.put({"_id": "../evil", "created_at": "2026-01-05T09:00:00"})

    status, summary = reconcile.request(start_date="2026-01-05", end_date="2026-01-06")

    assert (status, summary["seen"], summary["failed"]) == (503, 2, 1)
    assert set(reconcile.stored()) == {good}


def test_an_api_that_ignores_skip_is_detected(reconcile: RunningReconcile) -> None:
    reconcile.put(5, count=3)
    reconcile.api.ignores_skip = True

    status, summary = reconcile.request(start_date="2026-01-05", end_date="2026-01-06")

    assert status == 503
    assert "same page" in summary["message"]
    assert len(reconcile.api.requests) <= 3


def test_a_malformed_window_is_refused(reconcile: RunningReconcile) -> None:
    status, refusal = reconcile.request(start_date="yesterday")

    assert (status, refusal["error"]) == (400, "malformed_window")
    response = requests.post(reconcile.function.url, json=["2026-01-05"], timeout=9)
    assert response.status_code == 400


@pytest.mark.parametrize("depth", [101, 100_000])
def test_a_body_that_is_nested_too_deeply_is_refused(
    reconcile: RunningReconcile, depth: int
) -> None:
    response = requests.post(
        reconcile.function.url,
        data=b"[" * depth + b"]" * depth,
        headers={"Content-Type": "application/json"},
        timeout=9,
    )

    assert (response.status_code, response.json()["error"]) == (400, "malformed_window")
    assert "nested" in response.json()["message"]


def test_a_window_can_be_given_in_the_body(reconcile: RunningReconcile) -> None:
    reconcile.put(5)
    window = {"start_date": "2026-01-05T00:00:00+00:00", "end_date": "2026-01-06"}

    response = requests.post(reconcile.function.url, json=window, timeout=9)

    assert response.json()["stored"] == 1


@pytest.mark.parametrize(
    "content_type",
    ["application/octet-stream", "application/x-www-form-urlencoded", "text/plain", None],
)
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b" \n"], ids=["plain", "mark", "space"])
def test_the_body_is_read_whatever_its_content_type_says(
    reconcile: RunningReconcile, content_type: str | None, start: bytes
) -> None:
    reconcile.put(5)
    body = start + b'{"start_date": "2026-01-05", "end_date": "2026-01-06"}'
    headers = {"Content-Type": content_type} if content_type else {}

    response = requests.post(reconcile.function.url, data=body, headers=headers, timeout=9)

    assert (response.status_code, response.json()["seen"]) == (200, 1)


@pytest.mark.parametrize(
    ("query", "body", "named"),
    [
        ("?hours=1&hours=1", b"", "hours is given 2 times"),
        ("?hours=1", b'{"hours": 1}', "hours is given 2 times"),
        ("", b'{"hours": 1, "hours": 2}', "hours is given 2 times"),
        ("?start=2026-01-05", b"", "start is none of"),
        ("", b"start_date=2026-01-05", "Send a JSON object"),
        ("?start_date=2026-01-05T08:00:00+02:00", b"", "%2B"),
    ],
)
def test_what_could_be_misunderstood_is_refused_and_explained(
    reconcile: RunningReconcile, query: str, body: bytes, named: str
) -> None:
    response = requests.post(f"{reconcile.function.url}{query}", data=body, timeout=9)

    assert (response.status_code, response.json()["error"]) == (400, "malformed_window")
    assert named in response.json()["message"]
    assert reconcile.api.requests == []


@pytest.mark.parametrize(
    ("parameters", "start", "end"),
    [
        ({"start_date": "2026-01-05", "end_date": "2026-01-06"}, (5, 0), (6, 0)),
        ({"start_date": "2026-01-05T10:00:00+02:00", "end_date": "2026-01-06"}, (5, 8), (6, 0)),
        ({"end_date": "2026-01-06"}, (4, 0), (6, 0)),
        ({"end_date": "2026-01-06", "hours": "6"}, (5, 18), (6, 0)),
        ({"end_date": "2026-01-06", "hours": 24}, (5, 0), (6, 0)),
    ],
)
def test_a_window_is_parsed(
    parameters: dict[str, str], start: tuple[int, int], end: tuple[int, int]
) -> None:
    window = read_window(parameters)

    assert window.start == datetime(2026, 1, start[0], start[1], tzinfo=UTC)
    assert window.end == datetime(2026, 1, end[0], end[1], tzinfo=UTC)


@pytest.mark.parametrize(
    "parameters",
    [
        {"start_date": "2026-01-06", "end_date": "2026-01-05"},
        {"since": "2026-01-06"},
        {"hours": "0"},
        {"hours": "a day"},
        {"hours": [6]},
        {"hours": {}},
        {"start_date": ["2026-01-05"]},
        {"end_date": "0001-01-01T00:00:00Z"},
        {"hours": "6", "start_date": "2026-01-05"},
        {"start_date": 5},
        {"start_date": "0001-01-01T00:00:00+14:00"},
    ],
)
def test_an_invalid_window_is_an_error(parameters: dict[str, Any]) -> None:
    with pytest.raises(WindowError):
        read_window(parameters)


def test_a_page_that_is_too_large_is_requested_in_smaller_pages(
    dimmy_api: DimmyApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In this process, so that the limit can be small."""
    monkeypatch.setattr(client, "MAX_RESPONSE_BYTES", 20_000)
    settings = {
        "STORAGE_URL": f"file://{tmp_path}",
        "DIMMY_API_URL": dimmy_api.url,
        "DIMMY_API_KEY": dimmy_api.key,
    }
    reconciler = Reconciler(read_reconcile_settings(settings))
    for _ in range(30):
        dimmy_api.put(catalogue.make_item(RNG))

    summary, status = reconciler.handle(flask.Request(EnvironBuilder().get_environ()))

    assert timedelta(hours=48) == DEFAULT_LENGTH
    assert (status, summary["stored"]) == (200, 30)


@pytest.mark.parametrize(
    ("place", "failed"),
    [("store.store.Store.put_item", 3), ("reconcile.reconciler.PageReader", 0)],
)
def test_an_unforeseen_error_is_a_reason_to_repeat_the_request(
    dimmy_api: DimmyApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    failed: int,
) -> None:
    """In this process, so that an error can be raised anywhere."""
    settings = {
        "STORAGE_URL": f"file://{tmp_path}",
        "DIMMY_API_URL": dimmy_api.url,
        "DIMMY_API_KEY": dimmy_api.key,
    }
    reconciler = Reconciler(read_reconcile_settings(settings))
    lines: list[str] = []
    monkeypatch.setattr(logs, "write_line", lines.append)
    for _ in range(3):
        dimmy_api.put(catalogue.make_item(RNG))

    def fail(*_: Any, **__: Any) -> None:
        raise LookupError("nobody foresaw this")

    with monkeypatch.context() as sabotage:
        sabotage.setattr(f"pipeline.{place}", fail)
        answer, status = reconciler.handle(flask.Request(EnvironBuilder().get_environ()))

    assert (status, answer["error"], answer["failed"]) == (503, "unfinished", failed)
    (traceback,) = [line for line in map(json.loads, lines) if "stack_trace" in line]
    assert traceback["severity"] == "ERROR"
    assert "LookupError: nobody foresaw this" in traceback["stack_trace"]

    answer, status = reconciler.handle(flask.Request(EnvironBuilder().get_environ()))
    assert (status, answer["stored"]) == (200, 3)
