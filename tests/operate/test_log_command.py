"""`make logs` of an installation in Google Cloud.

One of them: .venv/bin/pytest tests/operate/test_log_command.py -k event
"""

import json

import pytest

from support.operator import Operator


def test_logs_are_filtered_by_function_time_event_and_severity(operator: Operator) -> None:
    entry = {
        "timestamp": "2026-11-01T08:00:00.123456Z",
        "severity": "WARNING",
        "resource": {"labels": {"service_name": "dimmy-dev-resolve"}},
        "jsonPayload": {"message": "event partial", "event_id": "msg_1"},
    }
    operator.set_answers(("logging read", json.dumps([entry]), 0))

    assert operator.run("logs", LAST="2d", EVENT="msg_1", SEVERITY="WARNING") == 0

    call = operator.call("logging", "read")
    assert call[3] == (
        'resource.type="cloud_run_revision" AND resource.labels.service_name='
        '("dimmy-dev-receive" OR "dimmy-dev-resolve" OR "dimmy-dev-reconcile" OR'
        ' "dimmy-dev-archive")'
        ' AND jsonPayload.event_id="msg_1" AND severity>=WARNING'
    )
    assert "--freshness=2d" in call
    line = "2026-11-01 08:00:00.123 UTC WARNING resolve   event partial event_id=msg_1"
    assert line in operator.printed


@pytest.mark.parametrize("settings", [{"EVENT": 'x" OR "1"="1'}, {"LAST": "soon"}, {"LIMIT": "0"}])
def test_logs_refuse_invalid_settings(operator: Operator, settings: dict[str, str]) -> None:
    assert operator.run("logs", **settings) == 2

    assert operator.calls == []
