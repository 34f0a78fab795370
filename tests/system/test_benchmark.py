"""The parts of the benchmark: requests are accepted and counts are right. Times are not checked.

One of them: .venv/bin/pytest tests/system/test_benchmark.py -k accepted
"""

import dataclasses
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from bench import report, unsigned_requests
from bench.load import Load, Result, event_id, item_ids, percentile
from bench.processes import Bench, send
from bench.report import Section, Target
from bench.resolve import deliver
from bench.warehouse import QUERIES, ask, fill
from bench.whole_way import TimedTables, run_to_the_row
from sandbox.warehouse import WAREHOUSE_FILE, Warehouse


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(own_pubsub=True) as bench:
        yield bench


@pytest.mark.parametrize("body_bytes", [None, 150, 350_000])
def test_every_webhook_of_a_closed_loop_is_accepted(bench: Bench, body_bytes: int | None) -> None:
    receive = bench.start("receive")
    receive.wait_until_up()

    result = send(
        Load(receive.url, bench.secret, 0.3, 4, body_bytes=body_bytes, at_most_per_second=9000)
    )

    assert set(result.statuses) == {"204"}
    assert result.answered == sum(result.statuses.values()) >= 4
    assert result.answered >= result.requests


def test_a_wrong_secret_shows_in_the_statuses(bench: Bench) -> None:
    receive = bench.start("receive", SIGNING_SECRETS="whsec_" + "A" * 32)
    receive.wait_until_up()

    result = send(Load(receive.url, bench.secret, 0.2, rate=20))

    assert result.statuses == {"401": 4}


def test_events_at_a_fixed_rate_are_accepted_and_their_ids_are_distinct(bench: Bench) -> None:
    bench.start_api(0.0)
    receive, resolve = bench.start("receive"), bench.start("resolve")
    receive.wait_until_up()
    resolve.wait_until_up()
    deliver(resolve, 3)
    load = Load(receive.url, bench.secret, 0.2, rate=20)

    result = send(load)

    assert result.statuses == {"204": 4}
    assert result.sent == sorted(result.sent)
    assert len(result.answered_in) == 4
    bench.admin.create_subscription("pulled", "events")  # created after those were published
    assert len({event_id(load.token, n) for n in range(4)}) == 4
    assert bench.api_calls() == 3
    assert len(list((bench.folder / "stored" / "items").iterdir())) == 3


def test_the_time_to_the_row_is_that_of_the_items_in_the_view(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / WAREHOUSE_FILE)
    warehouse.create()
    tables = TimedTables(warehouse)
    with Bench(own_pubsub=True, tables=tables) as bench:
        _, result, seconds = run_to_the_row(bench, tables, rate=10, seconds=1)

    assert result.statuses == {"204": 10}
    assert len(seconds) == 10
    assert all(0.05 < latency < math.inf for latency in seconds), "the API takes 50 ms"
    shown = {row[0] for row in warehouse.query("SELECT item_id FROM items").rows}
    assert shown == tables.written.keys()


def test_a_filled_warehouse_has_all_versions_and_the_newest_ones_in_the_view(
    tmp_path: Path,
) -> None:
    warehouse = Warehouse(tmp_path / WAREHOUSE_FILE)

    fill(warehouse, 100)

    ((versions, items),) = warehouse.query(
        "SELECT COUNT(*), COUNT(DISTINCT JSON_VALUE(data, '$.item_id')) FROM item_versions"
    ).rows
    assert (versions, items) == (130, 100)
    rows = warehouse.query("SELECT * FROM items").dicts()
    assert len(rows) == 100
    for row in rows:
        assert json.loads(row["item"])["_id"] == row["item_id"]
        assert row["updated_at"] == row["published_at"] > row["created_at"]
    updated = [row for row in rows if row["updated_at"] - row["created_at"] > timedelta(minutes=5)]
    assert len(updated) == 30
    for name, query in QUERIES.items():
        count, times = ask(warehouse, query, 100)
        assert count >= 1, name
        assert times


def test_unsigned_requests_do_not_delay_signed_webhooks(bench: Bench) -> None:
    receive = bench.start("receive")
    receive.wait_until_up()

    result, count = unsigned_requests.beside(
        unsigned_requests.MIXES["all of these"], receive, bench.secret, seconds=0.5
    )

    assert result.statuses == {"204": 50}
    assert count > 0


def test_item_ids_have_the_format_of_mongodb_and_are_distinct() -> None:
    ids = [name for event in range(50) for name in item_ids("0123abcd", event, 20)]

    assert len(set(ids)) == 1000
    assert {len(name) for name in ids} == {24}


def test_percentiles_are_measured_values() -> None:
    values = [float(n) for n in range(1, 101)]

    assert (percentile(values, 50), percentile(values, 99)) == (50, 99)
    assert percentile([3.0], 99) == 3
    assert percentile([], 50) != percentile([], 50)  # NaN


def test_targets_have_a_lower_or_an_upper_bound() -> None:
    assert Target("more", 2.5, 2.5).holds
    assert not Target("more", 2.4, 2.5).holds
    assert Target("less", 119.0, 120, "ms", highest=True).holds
    assert not Target("less", 121.0, 120, "ms", highest=True).holds


def test_results_are_written_as_json_and_as_markdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    section = Section(
        "receive", "a remark", ("", "webhooks/s"), [("ours", 9148.4), ("x", float("nan"))]
    )
    section.targets = [Target("throughput", 1.78, 2.5)]

    report.keep([section], "## What was tried")

    written = json.loads((tmp_path / "results.json").read_text())
    assert written["sections"][0]["rows"] == [
        {"": "ours", "webhooks/s": 9148.4},
        {"": "x", "webhooks/s": None},
    ]
    assert written["targets"][0]["holds"] is False
    assert written["machine"]["libraries"]["uvicorn"]
    text = (tmp_path / "results.md").read_text()
    assert "| throughput | 1.78 x | at least 2.5 x | **missed** |" in text
    assert "| ours | 9,148 |" in text
    assert text.endswith("## What was tried\n")
    shown = io.StringIO()
    report.show(Console(file=shown, width=80), section)
    report.show_targets(Console(file=shown, width=80), section.targets)
    assert "9,148" in shown.getvalue()
    assert "missed" in shown.getvalue()


def test_an_unknown_section_is_refused_with_the_list_of_sections() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--only", "nonsense"],
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "whole-way" in done.stderr


def test_a_load_survives_serialisation() -> None:
    load = Load("http://127.0.0.1:1/", "whsec_x", 1.0, rate=3)

    assert Load(**json.loads(json.dumps(dataclasses.asdict(load)))) == load
    assert Result(10, 12, 2.0, 0.0, 0.0, 0.0, {}).per_second == 5
