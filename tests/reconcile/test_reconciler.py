"""`reconcile`: it finds what no webhook told, changes nothing else, and is honest about it.

One of them: .venv/bin/pytest tests/reconcile/test_reconciler.py -k withheld

With ITEMS=50000 before it, the same in a larger window.
"""

import itertools
import json
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import flask
import pytest
import requests
from werkzeug.test import EnvironBuilder

from pipeline.dimmy import client
from pipeline.reconcile.pages import PAGE_ITEMS
from pipeline.reconcile.reconciler import Reconciler
from pipeline.reconcile.settings import read_reconcile_settings
from pipeline.reconcile.window import DEFAULT_LENGTH, Window, WindowError, read_window
from sandbox import catalogue
from sandbox.background import Background
from sandbox.dimmy_api import DimmyApi, Fault
from sandbox.functions import Function

VARIETY = random.Random()
ITEMS = int(os.environ.get("ITEMS", "1000"))

pytestmark = pytest.mark.xdist_group("reconcile")


class Reconciling:
    """A running `reconcile`, the API it asks, and the folder it writes to."""

    def __init__(self, function: Function, api: DimmyApi, folder: Path) -> None:
        self.function = function
        self.api = api
        self.folder = folder

    def ask(self, **window: str) -> tuple[int, dict[str, Any]]:
        response = requests.post(self.function.url, params=window, timeout=60)
        return response.status_code, response.json()

    def put(self, day: int, hour: int = 8, count: int = 1) -> list[str]:
        """Items that the API has from some hours of a day of January 2026."""
        first = datetime(2026, 1, day, hour)  # noqa: DTZ001
        return [
            self.api.put(
                catalogue.make_item(VARIETY)
                | {"created_at": (first + timedelta(milliseconds=100 * n)).isoformat()}
            )
            for n in range(count)
        ]

    def stored(self) -> dict[str, bytes]:
        return {path.stem: path.read_bytes() for path in (self.folder / "items").glob("*.json")}

    def store(self, item_ids: list[str]) -> None:
        (self.folder / "items").mkdir(exist_ok=True)
        for item_id in item_ids:
            (self.folder / "items" / f"{item_id}.json").write_bytes(self.api.body_of(item_id))


@pytest.fixture
def reconcile(background: Background, tmp_path: Path) -> Iterator[Reconciling]:
    api = DimmyApi("the-key-of-the-tests")
    background.run(api.start())
    function = Function(
        "reconcile",
        {
            "STORAGE_URL": f"file://{tmp_path}",
            "DIMMY_API_URL": api.url,
            "DIMMY_API_KEY": api.key,
            "DIMMY_TIMEOUT_SECONDS": "2",
        },
    )
    function.wait_until_up()
    yield Reconciling(function, api, tmp_path)
    function.stop()
    background.run(api.stop())


def test_it_finds_exactly_what_was_withheld_page_by_page(reconcile: Reconciling) -> None:
    item_ids = reconcile.put(5, count=ITEMS)
    withheld = set(VARIETY.sample(item_ids, ITEMS // 50))
    reconcile.store([item_id for item_id in item_ids if item_id not in withheld])
    before = {p: p.stat().st_mtime_ns for p in (reconcile.folder / "items").iterdir()}
    reconcile.put(7)  # outside the window

    status, summary = reconcile.ask(start_date="2026-01-05", end_date="2026-01-06")

    assert status == 200
    assert summary == {
        "seen": ITEMS,
        "stored": len(withheld),
        "updated": 0,
        "unchanged": ITEMS - len(withheld),
        "failed": 0,
    }
    assert reconcile.stored() == {i: reconcile.api.body_of(i) for i in item_ids}
    assert {p: p.stat().st_mtime_ns for p in before} == before, "something else was written"
    assert len(reconcile.api.seen) == ITEMS / PAGE_ITEMS + 1
    megabytes = [worker.memory_info().rss / 1e6 for worker in reconcile.function.workers]
    assert max(megabytes) < 110, "memory must not grow with the window"


def test_newer_items_replace_older_ones_and_never_the_other_way(reconcile: Reconciling) -> None:
    ahead, behind = reconcile.put(5, count=2)
    reconcile.store([ahead, behind])
    stored = json.loads(reconcile.api.body_of(ahead))
    newer = json.dumps(catalogue.updated(stored), separators=(",", ":")).encode()
    (reconcile.folder / "items" / f"{ahead}.json").write_bytes(newer)
    reconcile.api.put(catalogue.updated(json.loads(reconcile.api.body_of(behind))))

    _, summary = reconcile.ask(start_date="2026-01-05", end_date="2026-01-06")

    assert summary == {"seen": 2, "stored": 0, "updated": 1, "unchanged": 1, "failed": 0}
    assert reconcile.stored() == {ahead: newer, behind: reconcile.api.body_of(behind)}


def test_an_empty_window_is_a_finished_one(reconcile: Reconciling) -> None:
    status, summary = reconcile.ask(start_date="2026-01-05", end_date="2026-01-06")

    assert (status, summary["seen"]) == (200, 0)


def test_without_a_window_it_takes_the_last_two_days(reconcile: Reconciling) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    fresh, old = (
        reconcile.api.put(
            catalogue.make_item(VARIETY) | {"created_at": (now - timedelta(hours=h)).isoformat()}
        )
        for h in (47, 49)
    )

    status, summary = reconcile.ask()

    assert (status, summary["stored"]) == (200, 1)
    assert set(reconcile.stored()) == {fresh}
    assert old not in reconcile.stored()


def test_an_error_half_way_keeps_what_is_stored_and_asks_for_another_run(
    reconcile: Reconciling,
) -> None:
    item_ids = reconcile.put(5, count=2 * PAGE_ITEMS)
    reconcile.api.fail(Fault(status=500, after=1))

    status, summary = reconcile.ask(start_date="2026-01-05", end_date="2026-01-06")

    assert status == 503
    assert (summary["error"], summary["seen"], summary["stored"]) == (
        "unfinished",
        PAGE_ITEMS,
        PAGE_ITEMS,
    )
    assert "500" in summary["message"]
    assert len(reconcile.stored()) == PAGE_ITEMS

    reconcile.api.mend()
    status, summary = reconcile.ask(start_date="2026-01-05", end_date="2026-01-06")

    assert (status, summary["stored"]) == (200, PAGE_ITEMS)
    assert set(reconcile.stored()) == set(item_ids)


def test_items_that_appear_while_it_pages_lose_nobody(reconcile: Reconciling) -> None:
    item_ids = reconcile.put(5, hour=12, count=3 * PAGE_ITEMS)
    earlier_hours = iter(range(3))

    def shift() -> float:
        # The first requests find more items in front of those that were listed before.
        for hour in itertools.islice(earlier_hours, 1):
            reconcile.put(5, hour, count=3)
        return 0.0

    reconcile.api.latency = shift

    status, summary = reconcile.ask(start_date="2026-01-05", end_date="2026-01-06")

    assert status == 200
    assert summary["seen"] >= len(item_ids)
    assert set(item_ids) <= set(reconcile.stored())


def test_overlapping_runs_do_not_disturb_each_other(reconcile: Reconciling) -> None:
    item_ids = reconcile.put(5, count=300)
    windows = [("2026-01-05", "2026-01-06")] * 2 + [("2026-01-04", "2026-01-07")]

    with ThreadPoolExecutor(3) as askers:
        answers = list(askers.map(lambda w: reconcile.ask(start_date=w[0], end_date=w[1]), windows))

    assert [status for status, _ in answers] == [200] * 3
    assert sum(summary["stored"] for _, summary in answers) == 300
    assert reconcile.stored() == {i: reconcile.api.body_of(i) for i in item_ids}


def test_an_item_that_cannot_be_stored_is_counted_and_named(reconcile: Reconciling) -> None:
    (good,) = reconcile.put(5)
    reconcile.api.put({"_id": "../evil", "created_at": "2026-01-05T09:00:00"})

    status, summary = reconcile.ask(start_date="2026-01-05", end_date="2026-01-06")

    assert (status, summary["seen"], summary["failed"]) == (503, 2, 1)
    assert set(reconcile.stored()) == {good}


def test_an_api_that_ignores_skip_is_noticed(reconcile: Reconciling) -> None:
    reconcile.put(5, count=3)
    reconcile.api.ignores_skip = True

    status, summary = reconcile.ask(start_date="2026-01-05", end_date="2026-01-06")

    assert status == 503
    assert "same page" in summary["message"]


def test_a_window_that_makes_no_sense_is_refused(reconcile: Reconciling) -> None:
    status, refusal = reconcile.ask(start_date="yesterday")

    assert (status, refusal["error"]) == (400, "malformed_window")
    response = requests.post(reconcile.function.url, json=["2026-01-05"], timeout=9)
    assert response.status_code == 400


def test_a_window_comes_in_a_body_as_well(reconcile: Reconciling) -> None:
    reconcile.put(5)
    window = {"start_date": "2026-01-05T00:00:00+00:00", "end_date": "2026-01-06"}

    response = requests.post(reconcile.function.url, json=window, timeout=9)

    assert response.json()["stored"] == 1


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
def test_a_window_is_read(
    parameters: dict[str, str], start: tuple[int, int], end: tuple[int, int]
) -> None:
    expected = Window(
        datetime(2026, 1, start[0], start[1], tzinfo=UTC),
        datetime(2026, 1, end[0], end[1], tzinfo=UTC),
    )
    assert read_window(parameters) == expected


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
def test_a_window_that_is_none_is_said_so(parameters: dict[str, Any]) -> None:
    with pytest.raises(WindowError):
        read_window(parameters)


def test_a_page_too_large_is_asked_for_in_smaller_ones(
    background: Background, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In this process, where the limit can be made small."""
    monkeypatch.setattr(client, "MAX_RESPONSE_BYTES", 20_000)
    api = DimmyApi("the-key-of-the-tests")
    background.run(api.start())
    settings = {
        "STORAGE_URL": f"file://{tmp_path}",
        "DIMMY_API_URL": api.url,
        "DIMMY_API_KEY": api.key,
    }
    reconciling = Reconciler(read_reconcile_settings(settings))
    for _ in range(30):
        api.put(catalogue.make_item(VARIETY))

    summary, status = reconciling.handle(flask.Request(EnvironBuilder().get_environ()))

    background.run(api.stop())
    assert timedelta(hours=48) == DEFAULT_LENGTH
    assert (status, summary["stored"]) == (200, 30)
