"""What tells an operator how an installation is: logs, status, view, trace, doctor.

One of them: .venv/bin/pytest tests/test_observe.py -k doctor
"""

import json
import re
import shutil
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests

from conftest import wait_for
from operate.cloud import ROOT
from operating import API_KEY, DEPLOYED, HEALTHY, SIGNING_SECRET, Endpoint, Operator, series
from sandbox import catalogue
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from sandbox.processes import Process, free_port


def test_logs_are_asked_for_by_function_time_and_event(operator: Operator) -> None:
    entry = {
        "timestamp": "2026-11-01T08:00:00.123456Z",
        "severity": "WARNING",
        "resource": {"labels": {"service_name": "dimmy-dev-resolve"}},
        "jsonPayload": {"message": "event partial", "event_id": "msg_1"},
    }
    operator.answer(("logging read", json.dumps([entry]), 0))

    assert operator.run("logs", LAST="2d", EVENT="msg_1", SEVERITY="WARNING") == 0

    asked = operator.call("logging", "read")
    assert asked[3] == (
        'resource.type="cloud_run_revision" AND resource.labels.service_name='
        '("dimmy-dev-receive" OR "dimmy-dev-resolve" OR "dimmy-dev-reconcile")'
        ' AND jsonPayload.event_id="msg_1" AND severity>=WARNING'
    )
    assert "--freshness=2d" in asked
    assert "2026-11-01 08:00:00.123 WARNING resolve   event partial event_id=msg_1" in operator.said


@pytest.mark.parametrize("settings", [{"EVENT": 'x" OR "1"="1'}, {"LAST": "soon"}, {"LIMIT": "0"}])
def test_logs_take_no_nonsense(operator: Operator, settings: dict[str, str]) -> None:
    assert operator.run("logs", **settings) == 2

    assert operator.calls == []


def test_status_is_good_when_all_is_well(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    monitoring = endpoint((200, {}))

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 0

    assert re.search(r"dimmy-dev-resolve +ACTIVE, version 0123", operator.said)
    assert re.search(r"events +0 in the last hour, 0 in the last day", operator.said)
    assert {token for _, token in monitoring.requests} == {"Bearer an-access-token"}


def test_status_names_what_needs_a_person_and_the_command_that_helps(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    monitoring = endpoint((200, series(7)), (200, series(1000)), (200, series(12)))
    repaired = log_entry(
        "reconcile", 9, message="reconcile done", stored=3.0, updated=1.0, seen=340.0
    )
    operator.answer(
        ("functions describe dimmy-dev-resolve", '{"state": "FAILED"}', 0),
        ("jobs describe", '{"lastAttemptTime": "2026-11-01T08:17:00Z", "status": {"code": 14}}', 0),
        ("logging read webhook", json.dumps([PUBLISHED]), 0),
        ("logging read reconcile done", json.dumps([repaired]), 0),
        ("logging read severity>=ERROR", json.dumps([REFUSED]), 0),
    )

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 1

    assert "make redrive ENV=dev PROJECT=warehouse-1" in operator.said
    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.said
    assert "make logs SEVERITY=WARNING ENV=dev PROJECT=warehouse-1" in operator.said
    assert "make logs SEVERITY=ERROR ENV=dev PROJECT=warehouse-1" in operator.said
    assert "1000 s" in operator.said
    for said in (
        r"last event +2026-11-01T08:00:06 ",
        r"events +13 in the last hour, 13 in the last day",
        r"errors in the last hour +1 +make logs SEVERITY=ERROR ENV=dev",
        r"repaired by reconcile +3 stored and 1 updated of 340, 2026-11-01T08:00:09",
    ):
        assert re.search(said, operator.said), said


def test_view_shows_what_lies_in_the_bucket_and_how_it_stands(
    operator: Operator, endpoint: Callable[..., Endpoint], background: Background
) -> None:
    shutil.copytree(ROOT / "tests" / "sandbox", operator.tree / "tests" / "sandbox")
    storage = CloudStorage()
    background.run(storage.start())
    line = json.dumps(catalogue.VENDOR_EXAMPLE).encode()
    storage.place(f"{DEPLOYED['bucket']}/items/67c861de20bb29fb40d2cbbd.json", line)
    url = f"http://127.0.0.1:{free_port()}/"
    settings = {
        "PYTHONPATH": ":".join(str(operator.tree / x) for x in ("function", "infra", "tests")),
        "PYTHONUNBUFFERED": "1",
        "STORAGE_EMULATOR_HOST": storage.url,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING": endpoint((200, series(7))).url,
        "VIEW_PORT": url.rstrip("/").rpartition(":")[2],
    }
    view = Process([sys.executable, "-m", "sandbox.view"], operator.environment(settings))
    try:
        view.wait_until(lambda: any(url in line for line in view.lines))

        def page() -> str:
            return requests.get(url, timeout=5).text

        wait_for(lambda: "A0155C35" in page(), "the item")
        wait_for(lambda: "<code>make redrive ENV=dev PROJECT=warehouse-1" in page(), "the state")
        assert "<small>dev in warehouse-1</small>" in page()
    finally:
        view.stop()
        background.run(storage.stop())


def test_what_is_not_deployed_is_said_to_be_so(operator: Operator) -> None:
    operator.answer(("terraform output", "{}", 0))

    assert operator.run("status") == 2

    assert "Nothing is deployed as dev in warehouse-1 yet: make deploy" in operator.said


def log_entry(function: str, second: int, **fields: Any) -> dict[str, Any]:
    """One line as Cloud Logging gives it: numbers are floating ones there."""
    return {
        "timestamp": f"2026-11-01T08:00:{second:02}.123456789Z",
        "severity": "INFO",
        "resource": {"labels": {"service_name": f"dimmy-dev-{function}"}},
        "jsonPayload": {"event_id": "msg_1", **fields},
    }


REFUSED = log_entry("receive", 1, outcome="unavailable", status=503.0, reason="storage: away")
PUBLISHED = log_entry(
    "receive", 6, outcome="published", status=204.0, bytes=1490.0, source="52.215.16.239"
)
PARTIAL = log_entry(
    "resolve", 8, outcome="partial", attempt=1.0, items=2.0, failed=1.0, reason="67c9: 404"
)
RECEIPT = {
    "event_id": "msg_1",
    "kind": "items.scanned",
    "received_at": "2026-11-01T08:00:06Z",
    "attempts": 1,
    "outcome": "partial",
    "items": {"67c8": "stored", "67c9": "404: gone"},
}


TOLD = """\
msg_1
2026-11-01 08:00:01.123  receive   refused    503 unavailable: storage: away
2026-11-01 08:00:06.123  receive   received   204 published, 1,490 bytes, from 52.215.16.239
2026-11-01 08:00:08.123  resolve   attempt 1  partial, 2 items, 1 of them not stored: 67c9: 404
The receipt: items.scanned, partial, attempts 1, received 2026-11-01T08:00:06Z
67c9  404: gone
67c8  stored
1 item not stored yet; Pub/Sub has given up and keeps it among the dead letters.
To do: Dimmy's API does not know the item, at least not with this key: is the key of the account \
that scanned it, and was the item deleted? Then make redrive ENV=dev PROJECT=warehouse-1."""


def test_a_story_is_told_in_order_with_what_is_open_and_what_to_do(operator: Operator) -> None:
    letter = {"ackId": "a", "message": {"messageId": "1", "attributes": {"svix-id": "msg_1"}}}
    operator.answer(
        ("logging read", json.dumps([PARTIAL, PUBLISHED, REFUSED]), 0),
        ("storage cat", json.dumps(RECEIPT), 0),
        ("subscriptions pull", json.dumps([letter]), 0),
    )

    assert operator.run("trace", EVENT="msg_1") == 1

    told = [line.strip() for line in operator.said.splitlines() if line.strip()]
    assert "\n".join(told) == TOLD
    assert "--freshness=30d" in operator.call("logging", "read")


def test_a_finished_story_looks_at_no_dead_letter(operator: Operator) -> None:
    done = RECEIPT | {"outcome": "done", "items": {"67c8": "stored"}}
    operator.answer(
        ("logging read", json.dumps([PUBLISHED]), 0), ("storage cat", json.dumps(done), 0)
    )

    assert operator.run("trace", EVENT="msg_1") == 0

    assert "Done: 1 item of 1 in storage." in operator.said
    assert not any("pull" in call for call in operator.calls)


def test_of_an_item_the_events_are_found_that_named_it(operator: Operator) -> None:
    attempt = log_entry("resolve", 9, outcome="done", item_ids=["67c8"], items=1.0)
    done = RECEIPT | {"outcome": "done", "items": {"67c8": "stored"}}
    operator.answer(
        ("logging read", json.dumps([attempt]), 0), ("storage cat", json.dumps(done), 0)
    )

    assert operator.run("trace", ITEM="67c8", LAST="2d") == 0

    asked = next(call for call in operator.calls if "logging" in call)
    assert '(jsonPayload.item_ids="67c8" OR jsonPayload.item_id="67c8")' in asked[3]
    assert "--freshness=2d" in asked
    assert "msg_1" in operator.said


def test_of_an_event_that_nobody_knows_the_ways_to_get_it_are_told(operator: Operator) -> None:
    operator.answer(("storage cat", "matched no objects", 1))

    assert operator.run("trace", EVENT="msg_lost") == 1

    assert "Nothing is known of it here" in operator.said
    assert "make backfill SINCE=... ENV=dev PROJECT=warehouse-1" in operator.said


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"EVENT": "msg_1", "ITEM": "67c8"},
        {"EVENT": 'x" OR "1"="1'},
        {"EVENT": "m", "LAST": "?"},
    ],
)
def test_trace_takes_no_nonsense(operator: Operator, settings: dict[str, str]) -> None:
    assert operator.run("trace", **settings) == 2

    assert operator.calls == []


def test_the_doctor_finds_nothing_where_nothing_is_wrong(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    api = endpoint((200, []))
    receive = endpoint((400, {}), (204, {}))
    operator.answer(*HEALTHY, webhook_url=receive.url)

    assert operator.run("doctor", DIMMY_API_URL=api.url.rstrip("/")) == 0, operator.said

    for line in ("answers, and takes the key", "is refused", "is accepted", "All is fine."):
        assert line in operator.said
    assert SIGNING_SECRET not in operator.said
    assert API_KEY not in operator.said
    assert "SIGNING" not in json.dumps(operator.calls)
    assert len(receive.requests) == 3  # unsigned, signed, and the one that goes all the way


def test_the_doctor_names_what_is_wrong_and_how_to_mend_it(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    api = endpoint((401, {"detail": "Invalid API key"}))
    receive = endpoint((400, {}), (401, {"message": "No signature matches"}))
    names = "ENV=dev PROJECT=warehouse-1"
    operator.answer(
        ("topics describe", "NOT_FOUND", 1),
        ("subscriptions describe", json.dumps({"pushConfig": {}}), 0),
        *HEALTHY,
        webhook_url=receive.url,
    )

    assert operator.run("doctor", DIMMY_API_URL=api.url.rstrip("/")) == 1

    said = " ".join(operator.said.split())
    assert f"rejects the key (401) make secrets {names}, then make deploy {names}" in said
    assert f"is not there make plan {names} shows what is missing" in said
    assert "pushes to nobody" in said
    assert "is refused with 401: No signature matches" in said
    assert "4 to mend." in said
    assert SIGNING_SECRET not in operator.said
    assert API_KEY not in operator.said


def test_before_the_first_deployment_the_doctor_says_what_comes_next(operator: Operator) -> None:
    operator.answer(("secrets versions list", "", 0), ("terraform output", "{}", 0))

    assert operator.run("doctor") == 1

    assert "is missing" in operator.said
    assert "make deploy ENV=dev PROJECT=warehouse-1" in operator.said
