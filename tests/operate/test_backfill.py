"""`make backfill` of an installation in Google Cloud.

One of them: .venv/bin/pytest tests/operate/test_backfill.py -k retries
"""

from collections.abc import Callable

import pytest

from support.operator import DEPLOYED, Endpoint, Operator


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
        ({"SINCE": "2026-11-02", "UNTIL": "2026-11-01"}, "The window from SINCE=2026-11-02"),
    ],
)
def test_backfill_refuses_an_invalid_window(
    operator: Operator, settings: dict[str, str], message: str
) -> None:
    assert operator.run("backfill", **settings) == 2

    assert message in operator.printed
    assert operator.calls == []
