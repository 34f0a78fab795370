"""The benchmark's own parts: what it sends is accepted, what it counts is right. No times.

One of them: .venv/bin/pytest tests/system/test_benchmark.py -k accepted
"""

import dataclasses
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from bench import report
from bench.load import Load, Result, event_id, item_ids, percentile
from bench.processes import Bench, send
from bench.report import Section, Target
from bench.resolve import deliver


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(own_pubsub=True) as bench:
        yield bench


@pytest.mark.parametrize("body_bytes", [None, 150, 350_000])
def test_as_fast_as_answered_every_webhook_is_accepted(
    bench: Bench, body_bytes: int | None
) -> None:
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


def test_at_a_rate_each_event_goes_the_whole_way_under_its_own_id(bench: Bench) -> None:
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
    bench.admin.create_subscription("pulled", "events")  # comes too late for those
    assert len({event_id(load.token, n) for n in range(4)}) == 4
    assert bench.api_calls() == 3
    assert len(list((bench.folder / "stored" / "items").iterdir())) == 3


def test_ids_of_items_have_mongodbs_form_and_are_all_different() -> None:
    ids = [name for event in range(50) for name in item_ids("0123abcd", event, 20)]

    assert len(set(ids)) == 1000
    assert {len(name) for name in ids} == {24}


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 101)]

    assert (percentile(values, 50), percentile(values, 99)) == (50, 99)
    assert percentile([3.0], 99) == 3
    assert percentile([], 50) != percentile([], 50)  # not a number


def test_targets_are_judged_on_the_right_side_of_their_bound() -> None:
    assert Target("more", 2.5, 2.5).holds
    assert not Target("more", 2.4, 2.5).holds
    assert Target("less", 119.0, 120, "ms", highest=True).holds
    assert not Target("less", 121.0, 120, "ms", highest=True).holds


def test_results_are_kept_for_machines_and_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    section = Section(
        "receive", "a remark", ("", "webhooks/s"), [("ours", 9148.4), ("x", float("nan"))]
    )
    section.targets = [Target("throughput", 1.78, 2.5)]

    report.keep([section], "## What was tried")

    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["sections"][0]["rows"] == [
        {"": "ours", "webhooks/s": 9148.4},
        {"": "x", "webhooks/s": None},
    ]
    assert kept["targets"][0]["holds"] is False
    assert kept["machine"]["libraries"]["uvicorn"]
    text = (tmp_path / "results.md").read_text()
    assert "| throughput | 1.78 x | at least 2.5 x | **missed** |" in text
    assert "| ours | 9,148 |" in text
    assert text.endswith("## What was tried\n")
    shown = io.StringIO()
    report.show(Console(file=shown, width=80), section)
    report.show_targets(Console(file=shown, width=80), section.targets)
    assert "9,148" in shown.getvalue()
    assert "missed" in shown.getvalue()


def test_the_command_knows_its_sections() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--only", "nonsense"],
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "whole-way" in done.stderr


def test_a_load_survives_the_way_to_its_process() -> None:
    load = Load("http://127.0.0.1:1/", "whsec_x", 1.0, rate=3)

    assert Load(**json.loads(json.dumps(dataclasses.asdict(load)))) == load
    assert Result(10, 12, 2.0, 0.0, 0.0, 0.0, {}).per_second == 5
