"""The log-based metrics of `infra/`, evaluated on real log lines of the functions.

One of them: .venv/bin/pytest tests/infra/test_monitoring.py -k metrics
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from operate.google.deployment import INFRA
from sandbox import catalogue
from sandbox.dimmy_api import Fault
from sandbox.functions import Function
from sandbox.stack import Stack, new_secret, start_stack
from sandbox.svix_sender import SvixSender, new_message
from support.bigquery import Database, Message
from support.programs import needs
from support.waiting import wait_for
from terraform import checks
from terraform.checks import Plan, Plans
from terraform.filters import Entry, field, matches
from terraform.provider import GoogleProvider

VARIETY = random.Random()

# The metrics of Google Cloud in use: https://cloud.google.com/monitoring/api/metrics_gcp
PLATFORM_METRICS = {
    "pubsub.googleapis.com/subscription/num_undelivered_messages",
    "pubsub.googleapis.com/subscription/oldest_unacked_message_age",
    "pubsub.googleapis.com/topic/send_message_operation_count",
    "run.googleapis.com/request_count",
    "run.googleapis.com/request_latencies",
    "storage.googleapis.com/api/request_count",
}

# Google Cloud cannot change a metric's labels: Terraform replaces it, and its history is lost.
LABELS: dict[str, set[str]] = {
    "webhooks": {"outcome"},
    "attempts": {"outcome"},
    "unfinished-attempts": {"reason_class"},
    "failed-items": set(),
    "rejected-keys": set(),
    "missed-items": set(),
    "reconciles": {"outcome"},
    "api-errors": set(),
    "api-latency": set(),
}

pytestmark = [
    pytest.mark.xdist_group("monitoring"),
    needs("terraform"),
]


@pytest.fixture(scope="module")
def plans() -> Plans:
    with GoogleProvider() as provider:
        return checks.check_behaviour(INFRA, provider)


@pytest.fixture(scope="module")
def plan(plans: Plans) -> Plan:
    return plans["emails_and_silence"]


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Entry]]:
    """The log lines of the scenario, as entries of Cloud Logging."""
    collected: list[Entry] = []

    def collect(function: str, line: dict[str, Any]) -> None:
        resource = {"service_name": f"dimmy-test-{function}"}
        collected.append(
            {
                "resource": {"type": "cloud_run_revision", "labels": resource},
                "severity": line["severity"],
                "jsonPayload": {name: v for name, v in line.items() if name != "severity"},
            }
        )

    folder = tmp_path_factory.mktemp("monitoring")
    with start_stack(folder, on_log=collect) as stack:
        run_scenario(stack, folder, collect)
        yield collected


def run_scenario(stack: Stack, folder: Path, collect: Any) -> None:
    """A scan, a forged webhook, a missing item, a rejected API key, and two reconciles."""
    api = stack.api
    assert api
    done = stack.send({"item_ids": [api.put(catalogue.make_item(VARIETY))]})
    forger = SvixSender(f"{stack.receive.url}webhook", new_secret())
    stack.background.run(forger.__aenter__())
    stack.background.run(forger.attempt(new_message({"item_ids": []})))
    stack.background.run(forger.__aexit__())
    missing = stack.send({"item_ids": [catalogue.new_id(VARIETY)]})
    for message in (done, missing):
        wait_for(lambda m=message: stack.receipt(m.message_id), "a receipt")  # type: ignore[misc]
    api.fail(Fault(status=401))
    refused = stack.send({"item_ids": [catalogue.new_id(VARIETY)]})
    wait_for(lambda: stack.receipt(refused.message_id), "the receipt of a refused attempt")
    reconcile = Function(
        "reconcile",
        {"STORAGE_URL": f"file://{folder}", "DIMMY_API_URL": api.url, "DIMMY_API_KEY": api.key},
        on_log=lambda line: collect("reconcile", line),
    )
    reconcile.wait_until_up()
    try:
        requests.post(reconcile.url, timeout=30)
        api.clear_faults()
        now = datetime.now(UTC).replace(tzinfo=None).isoformat()
        api.put(catalogue.make_item(VARIETY) | {"created_at": now})
        requests.post(reconcile.url, timeout=30)
    finally:
        reconcile.stop()


def test_the_log_based_metrics_count_what_the_functions_log(
    plan: Plan, entries: list[Entry]
) -> None:
    counted: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for address, metric in plan.items():
        if not address.startswith("google_logging_metric."):
            continue
        labels = metric["label_extractors"] or {}
        paths = [re.fullmatch(r"EXTRACT\((.+)\)", extractor) for extractor in labels.values()]
        assert {
            label["key"] for part in metric["metric_descriptor"] for label in part["labels"]
        } == {*labels}
        value = re.fullmatch(r"EXTRACT\((.+)\)", metric["value_extractor"] or "")
        for entry in entries:
            if matches(metric["filter"], entry):
                assert not value or field(entry, value[1]) > 0
                label_values = tuple(field(entry, path[1]) for path in paths if path)
                function = field(entry, "resource.labels.service_name").rpartition("-")[2]
                counted[metric["name"]].add((function, *label_values))

    assert counted == {
        "dimmy-test-webhooks": {("receive", "published"), ("receive", "signature_mismatch")},
        "dimmy-test-attempts": {("resolve", "done"), ("resolve", "partial")},
        "dimmy-test-failed-items": {("resolve",)},
        "dimmy-test-unfinished-attempts": {("resolve", "not_found"), ("resolve", "api_key")},
        "dimmy-test-rejected-keys": {("resolve",), ("reconcile",)},
        "dimmy-test-missed-items": {("reconcile",)},
        "dimmy-test-api-errors": {("resolve",), ("reconcile",)},
        "dimmy-test-api-latency": {("resolve",), ("reconcile",)},
        "dimmy-test-reconciles": {("reconcile", "done"), ("reconcile", "unfinished")},
    }


def test_the_events_in_bigquery_are_those_that_resolve_logs(
    plans: Plans, entries: list[Entry]
) -> None:
    passed_on = plans["bigquery"]["google_logging_project_sink.event_attempts[0]"]["filter"]
    lines = [
        Message(json.dumps(entry | {"timestamp": f"2026-11-01T08:00:{number:02}Z"}), str(number))
        for number, entry in enumerate(entry for entry in entries if matches(passed_on, entry))
    ]
    with Database() as database:
        database.write("event_attempts", lines)
        rows = database.view("events")

    assert len(lines) >= len(rows) == 3
    states = sorted((row["outcome"], row["items"], row["failed"]) for row in rows)
    assert states == [("done", 1, 0), ("partial", 1, 1), ("partial", 1, 1)]
    assert {row["reason_class"] for row in rows} <= {None, "api_key", "not_found"}
    for row in rows:
        assert row["kind"] == "items.scanned"
        assert row["attempts"] >= 1
        assert row["milliseconds"] > 0
        assert row["received_at"] is not None


def test_a_metric_keeps_its_labels(plan: Plan) -> None:
    labels = {
        metric["name"].removeprefix("dimmy-test-"): {*(metric["label_extractors"] or {})}
        for address, metric in plan.items()
        if address.startswith("google_logging_metric.")
    }
    changed = {name for name in labels.keys() & LABELS.keys() if labels[name] != LABELS[name]}

    assert not changed, "give a metric with other labels another name: this one would be replaced"
    assert labels.keys() == LABELS.keys()


@pytest.mark.parametrize(
    ("run", "alerts", "charts"), [("emails_and_silence", 10, 15), ("item_alerts", 10 + 8, 15 + 3)]
)
def test_alerts_and_charts_use_existing_metrics(
    plans: Plans, run: str, alerts: int, charts: int
) -> None:
    plan = plans[run]
    ours = {
        f"logging.googleapis.com/user/{metric['name']}"
        for address, metric in plan.items()
        if address.startswith("google_logging_metric.")
    }
    filters = [
        condition["filter"]
        for address, policy in plan.items()
        if address.startswith("google_monitoring_alert_policy.")
        for condition in (
            policy["conditions"][0]["condition_threshold"]
            or policy["conditions"][0]["condition_absent"]
        )
    ]
    dashboard = json.loads(plan["google_monitoring_dashboard.this"]["dashboard_json"])
    for tile in dashboard["mosaicLayout"]["tiles"]:
        (chart,) = tile["widget"]["xyChart"]["dataSets"]
        filters.append(chart["timeSeriesQuery"]["timeSeriesFilter"]["filter"])

    used = {re.search(r'metric\.type="([^"]+)"', text)[1] for text in filters}  # type: ignore[index]

    assert len(filters) == alerts + charts
    assert used - ours <= PLATFORM_METRICS
    assert ours <= used, "a metric is neither in an alert nor in a chart"
    outcomes = {found for text in filters for found in re.findall(r'outcome="(\w+)"', text)}
    assert outcomes == {"published", "signature_mismatch", "unfinished"}
    classes = {found for text in filters for found in re.findall(r'reason_class!?="(\w+)"', text)}
    assert classes == {"not_found"}


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ('a="x"', True),
        ('a="y"', False),
        ('a=("y" OR "x") AND b.c=~"^wor"', True),
        ('a="x" AND severity>=ERROR', False),
        ("severity>=WARNING", True),
        ("n>=2", True),
        ("n>=3", False),
        ('b.d="x"', False),
    ],
)
def test_the_query_language_is_evaluated(query: str, holds: bool) -> None:
    entry = {"a": "x", "b": {"c": "word"}, "n": 2.5, "severity": "WARNING"}

    assert matches(query, entry) is holds
    with pytest.raises(ValueError, match="unsupported query syntax"):
        matches(f"{query} OR c=1", entry)
