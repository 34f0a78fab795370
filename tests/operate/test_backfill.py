"""`make backfill` of an installation in Google Cloud.

One of them: .venv/bin/pytest tests/operate/test_backfill.py -k retries
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from operate.commands.arguments import read_window
from support.operator import DEPLOYED, Endpoint, Operator, log_entry


def test_backfill_reconciles_day_by_day_and_retries_unfinished_windows(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    done = {"seen": 5, "stored": 2, "updated": 1, "unchanged": 2, "failed": 0}
    reconcile = endpoint((503, done | {"message": "Repeat the request: 500."}), (200, done))
    operator.set_answers(
        functions=DEPLOYED["functions"] | {"reconcile": {"name": "r", "url": reconcile.url}}
    )

    assert operator.run("backfill", SINCE="2026-11-01", UNTIL="2026-11-03T12:00", YES="1") == 0

    windows = [path for path, _ in reconcile.requests]
    utc = "%3A00%3A00%2B00%3A00"
    day = f"/?start_date=2026-11-0{{}}T00{utc}&end_date=2026-11-0{{}}T{{}}{utc}"
    assert windows == [
        day.format(1, 2, "00"),
        day.format(1, 2, "00"),
        day.format(2, 3, "00"),
        day.format(3, 3, "12"),
    ]
    assert {token for _, token in reconcile.requests} == {"Bearer an-identity-token"}
    assert "20 seen, 8 stored, 4 updated, 8 unchanged, 0 failed" in operator.printed
    assert "an-identity-token" not in operator.printed


def test_backfill_reports_unfinished_windows(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    reconcile = endpoint((503, {"message": "Repeat the request: 500."}))
    operator.set_answers(
        functions=DEPLOYED["functions"] | {"reconcile": {"name": "r", "url": reconcile.url}}
    )

    assert operator.run("backfill", SINCE="2026-11-01", UNTIL="2026-11-02", YES="1") == 1

    assert len(reconcile.requests) == 3
    assert "unfinished: 2026-11-01" in operator.printed


def test_backfill_names_the_missing_role(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    reconcile = endpoint((403, {}))
    operator.set_answers(
        functions=DEPLOYED["functions"] | {"reconcile": {"name": "r", "url": reconcile.url}}
    )

    assert operator.run("backfill", SINCE="2026-11-01", UNTIL="2026-11-05", YES="1") == 1

    assert "roles/run.invoker" in operator.printed
    assert len(reconcile.requests) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "SINCE is missing"),
        ({"SINCE": "yesterday"}, "SINCE=yesterday is not a date"),
        ({"SINCE": "0001-01-01T00:00:00+05:00"}, "SINCE=0001-01-01T00:00:00+05:00 is not a date"),
        ({"SINCE": "2026-11-02", "UNTIL": "2026-11-01"}, "The window from SINCE=2026-11-02"),
    ],
)
def test_backfill_refuses_an_invalid_window(
    operator: Operator, settings: dict[str, str], message: str
) -> None:
    assert operator.run("backfill", **settings) == 2

    assert message in operator.printed
    assert operator.calls == []


def test_backfill_goes_through_cloud_scheduler_where_reconcile_is_internal(
    operator: Operator,
) -> None:
    times = {"start_date": "2026-11-01T00:00:00+00:00", "end_date": "2026-11-02T00:00:00+00:00"}
    done = {"message": "reconcile done", "outcome": "done", "seen": 5.0, "stored": 2.0}
    lines = [
        log_entry("reconcile", 1, **done, **times | {"start_date": "2026-10-31T00:00:00+00:00"}),
        log_entry("reconcile", 2, **done, **times),
    ]
    operator.set_answers(
        ("logging read", json.dumps(lines[:1]), 0, 1),
        ("logging read", json.dumps(lines[::-1]), 0),
        reconcile_ingress="ALLOW_INTERNAL_ONLY",
    )

    status = operator.run(
        "backfill", SINCE="2026-11-01", UNTIL="2026-11-02", YES="1", PAUSE_SECONDS="0.1"
    )

    assert status == 0, operator.printed
    assert "5 seen, 2 stored" in operator.printed
    create, run, delete = [call for call in operator.calls if "scheduler" in call]
    name = create[5]
    assert create[2:5] == ["jobs", "create", "http"]
    assert run[3:5] == ["run", name]
    assert delete[3:5] == ["delete", name]
    midnight = "T00%3A00%3A00%2B00%3A00"
    query = f"start_date=2026-11-01{midnight}&end_date=2026-11-02{midnight}"
    assert {
        f"--uri=https://reconcile.a.run.app/?{query}",
        "--oidc-service-account-email=dimmy-dev-scheduler@warehouse-1.iam.gserviceaccount.com",
        "--location=europe-west1",
    } <= set(create)


def test_a_window_that_ends_in_the_future_ends_now() -> None:
    settings = {"SINCE": "2026-11-01", "UNTIL": "2199-01-01"}
    before = datetime.now(UTC)

    _, end = read_window(settings)

    assert before <= end <= datetime.now(UTC)


def test_the_answer_of_a_reconcile_whose_clock_is_behind_is_found(operator: Operator) -> None:
    """It ends a window at its own present."""
    times = {"start_date": "2026-11-01T00:00:00+00:00", "end_date": "2026-11-01T23:59:00+00:00"}
    done = {"message": "reconcile done", "outcome": "done", "seen": 5.0, "stored": 2.0}
    operator.set_answers(
        ("logging read", json.dumps([log_entry("reconcile", 1, **done, **times)]), 0),
        reconcile_ingress="ALLOW_INTERNAL_ONLY",
    )

    assert operator.run("backfill", SINCE="2026-11-01", UNTIL="2026-11-02", YES="1") == 0

    assert "5 seen, 2 stored" in operator.printed


def test_the_job_of_a_backfill_is_deleted_when_no_answer_comes(operator: Operator) -> None:
    operator.set_answers(("logging read", "[]", 0), reconcile_ingress="ALLOW_INTERNAL_ONLY")

    status = operator.run(
        "backfill",
        SINCE="2026-11-01",
        UNTIL="2026-11-02",
        YES="1",
        PAUSE_SECONDS="0.1",
        PATIENCE_SECONDS="0.2",
    )

    assert status == 1
    assert "Cloud Logging has no answer of reconcile" in operator.printed
    jobs = [call[3] for call in operator.calls if "scheduler" in call]
    assert jobs == ["create", "run", "delete"] * 3


def test_a_service_account_gets_an_identity_token_for_the_function(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    """People cannot name an audience; gcloud says so."""
    reconcile = endpoint((200, {"seen": 1}))
    functions = DEPLOYED["functions"] | {"reconcile": {"name": "r", "url": reconcile.url}}
    window = {"SINCE": "2026-11-01", "UNTIL": "2026-11-02", "YES": "1"}
    for_audience = f"print-identity-token --audiences={reconcile.url}"

    operator.set_answers((for_audience, "for-audience", 0), functions=functions)
    assert operator.run("backfill", **window) == 0
    refusal = "ERROR: Invalid account type for `--audiences`. Requires valid service account."
    operator.set_answers((for_audience, refusal, 1), functions=functions)
    assert operator.run("backfill", **window) == 0

    tokens = [token for _, token in reconcile.requests]
    assert tokens == ["Bearer for-audience", "Bearer an-identity-token"]
