"""`make status` of an installation in Google Cloud.

One of them: .venv/bin/pytest tests/operate/test_status.py -k person
"""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests

from sandbox import catalogue
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from sandbox.processes import Process, free_port
from support.operator import (
    DEPLOYED,
    FINISHED_RECEIPT,
    PUBLISHED,
    RECEIPT,
    REFUSED,
    Endpoint,
    Operator,
    log_entry,
    time_series,
)
from support.waiting import wait_for


def test_status_of_a_healthy_installation_exits_with_0(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    monitoring = endpoint((200, {}))

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 0

    assert re.search(r"dimmy-dev-resolve +ACTIVE, version 0123", operator.printed)
    assert re.search(r"events +0 in the last hour, 0 in the last day", operator.printed)
    assert {token for _, token in monitoring.requests} == {"Bearer an-access-token"}


def test_status_names_each_problem_and_the_command_that_solves_it(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    monitoring = endpoint((200, time_series(7)), (200, time_series(1000)), (200, time_series(12)))
    repaired = log_entry(
        "reconcile", 9, message="reconcile done", stored=3.0, updated=1.0, seen=340.0
    )
    late_error = REFUSED | {"timestamp": "2026-11-01T08:00:07Z"}
    operator.set_answers(
        ("functions describe dimmy-dev-resolve", '{"state": "FAILED"}', 0),
        ("jobs describe", '{"lastAttemptTime": "2026-11-01T08:17:00Z", "status": {"code": 14}}', 0),
        ("logging read webhook", json.dumps([PUBLISHED]), 0),
        ("logging read reconcile done", json.dumps([repaired]), 0),
        ("logging read severity>=ERROR", json.dumps([late_error]), 0),
    )

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 1

    assert "make redrive ENV=dev PROJECT=warehouse-1" in operator.printed
    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.printed
    assert "make logs SEVERITY=WARNING ENV=dev PROJECT=warehouse-1" in operator.printed
    assert "make logs SEVERITY=ERROR ENV=dev PROJECT=warehouse-1" in operator.printed
    assert re.search(r"oldest event waiting +16 min ", operator.printed)
    for row in (
        r"last event +2026-11-01 08:00:06 UTC ",
        r"events +13 in the last hour, 13 in the last day",
        r"errors in the last hour +1 +make trace EVENT=msg_1 ENV=dev",
        r"repaired by reconcile +3 stored and 1 updated of 340, 2026-11-01 08:00:09 UTC",
        r"hourly reconcile +2026-11-01 08:17:00 UTC, failed",
    ):
        assert re.search(row, operator.printed), row


def test_status_shows_an_error_as_google_writes_it(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    """Not as markup of the program that draws the table."""
    error = "[anna@example.com] may not write [/root/.config/gcloud/logs/1] of [warehouse-1]"
    operator.set_answers(("functions describe", error, 1))
    monitoring = endpoint((200, {}))

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 1

    assert error in " ".join(operator.printed.split())


def test_status_counts_the_dead_letters_of_items(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    dead_letters = {"subscriber-wms": "projects/warehouse-1/subscriptions/wms-dead-letters"}
    operator.set_answers(item_dead_letter_subscriptions=dead_letters)
    monitoring = endpoint((200, time_series(7)))

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 1

    row = r"dead letters of subscriber-wms +7 +infra/README.md, Items for other systems"
    assert re.search(row, operator.printed)


UNFINISHED = log_entry("resolve", 8, severity="ERROR", outcome="unavailable", reason="storage: x")
UNFINISHED_RECONCILE = log_entry("reconcile", 8, event_id=None, outcome="unfinished", reason="500")
RECONCILED = log_entry("reconcile", 9, message="reconcile done", seen=1.0)


@pytest.mark.parametrize(
    ("error", "later", "remedy"),
    [
        (REFUSED, [("webhook published", PUBLISHED)], ""),
        (PUBLISHED | {"timestamp": "2026-11-01T08:00:05Z"}, [("webhook published", PUBLISHED)], ""),
        (UNFINISHED, [("webhook published", PUBLISHED)], "make trace EVENT=msg_1"),
        (UNFINISHED, [("storage cat", RECEIPT)], "make trace EVENT=msg_1"),
        (UNFINISHED, [("storage cat", FINISHED_RECEIPT)], ""),
        (UNFINISHED_RECONCILE, [], "make logs SEVERITY=ERROR"),
        (UNFINISHED_RECONCILE, [("reconcile done", RECONCILED)], ""),
    ],
)
def test_an_error_needs_a_person_until_a_later_success(
    operator: Operator,
    endpoint: Callable[..., Endpoint],
    error: dict[str, Any],
    later: list[tuple[str, Any]],
    remedy: str,
) -> None:
    monitoring = endpoint((200, {}))
    operator.set_answers(
        ("logging read severity>=ERROR", json.dumps([error]), 0),
        *(
            (words, json.dumps(value if words == "storage cat" else [value]), 0)
            for words, value in later
        ),
        ("storage cat", "matched no objects", 1),
    )

    status = operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url)

    assert status == bool(remedy)
    shown = re.search(r"errors in the last hour +1 *(.*?) *\n", operator.printed)
    assert shown
    assert shown[1].startswith(remedy)
    assert bool(shown[1]) == bool(remedy)


@pytest.mark.parametrize("state", ["PAUSED", "DISABLED"])
def test_status_names_a_job_that_does_not_run(
    operator: Operator, endpoint: Callable[..., Endpoint], state: str
) -> None:
    job = {"lastAttemptTime": "2026-10-01T08:17:00Z", "status": {}, "state": state}
    operator.set_answers(("jobs describe", json.dumps(job), 0))
    monitoring = endpoint((200, {}))

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 1

    output = " ".join(operator.printed.split())
    assert f"hourly reconcile its job is {state} gcloud scheduler jobs resume" in output
    assert "dimmy-dev-reconcile-hourly --location=europe-west1 --project=warehouse-1" in output


def test_status_names_what_was_deleted_and_shows_the_rest(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    operator.set_answers(
        ("functions describe dimmy-dev-resolve", "NOT_FOUND", 1),
        ("subscriptions describe", "NOT_FOUND", 1),
        ("jobs describe", "NOT_FOUND", 1),
    )
    monitoring = endpoint((200, {}))

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 1

    for row in (
        r"dimmy-dev-receive +ACTIVE",
        r"dimmy-dev-resolve +does not exist +make deploy ENV=dev PROJECT=warehouse-1 restores it",
        r"dimmy-dev-reconcile +ACTIVE",
        r"subscription +does not exist +make doctor",
        r"events +0 in the last hour",
        r"hourly reconcile +its job does not exist +make deploy",
    ):
        assert re.search(row, operator.printed), row


def test_a_part_of_the_status_that_cannot_be_read_does_not_hide_the_others(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    operator.set_answers(("logging read webhook published", "PERMISSION_DENIED\nfor logs", 1))
    monitoring = endpoint((403, {"error": "no access"}))

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 1

    output = " ".join(operator.printed.split())
    assert "events waiting cannot be read: Cloud Monitoring answers 403" in output
    assert "PERMISSION_DENIED for logs" in output
    assert "make doctor ENV=dev PROJECT=warehouse-1" in output
    assert re.search(r"dimmy-dev-resolve +ACTIVE", operator.printed)
    assert re.search(r"hourly reconcile +2026-11-01 08:17:00 UTC, done", operator.printed)


def test_status_reports_that_nothing_is_deployed(operator: Operator) -> None:
    operator.set_answers(("terraform output", "{}", 0))

    assert operator.run("status") == 2

    assert "Nothing is deployed as dev in warehouse-1 yet: make deploy" in operator.printed


def test_view_shows_the_items_in_the_bucket_and_the_status(
    operator: Operator, endpoint: Callable[..., Endpoint], background: Background
) -> None:
    storage = CloudStorage()
    background.run(storage.start())
    line = json.dumps(catalogue.VENDOR_EXAMPLE).encode()
    storage.put(f"{DEPLOYED['bucket']}/items/67c861de20bb29fb40d2cbbd.json", line)
    url = f"http://127.0.0.1:{free_port()}/"
    settings = {
        "PYTHONUNBUFFERED": "1",
        "STORAGE_EMULATOR_HOST": storage.url,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING": endpoint((200, time_series(7))).url,
        "VIEW_PORT": url.rstrip("/").rpartition(":")[2],
    }
    view = Process([sys.executable, "-m", "operate", "view"], operator.environment(settings))
    try:
        view.wait_until(lambda: any(url in line for line in view.lines))

        def page() -> str:
            return requests.get(url, timeout=5).text

        wait_for(lambda: "A0155C35" in page(), "the item")
        wait_for(lambda: "<code>make redrive ENV=dev PROJECT=warehouse-1" in page(), "the status")
        assert "<small>dev in warehouse-1</small>" in page()
    finally:
        view.stop()
        background.run(storage.stop())


def test_view_names_credentials_in_the_environment_that_cannot_be_used(operator: Operator) -> None:
    settings = {"GOOGLE_SERVICE_ACCOUNT": "/nonexistent", "VIEW_PORT": str(free_port())}

    assert operator.run("view", **settings) == 2

    assert "Storage cannot be opened" in operator.printed
    assert "unset GOOGLE_SERVICE_ACCOUNT" in operator.printed
    assert "Traceback" not in operator.printed
