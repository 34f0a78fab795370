"""Log lines: one JSON object each, linked to the request's trace, or plain text for a terminal.

One of them: .venv/bin/pytest tests/shared/test_logs.py -k trace
"""

import json

import pytest

from pipeline import logs
from pipeline.logs import LogSettings

TRACEPARENT = "00-80e1afed08e019fc1110464cfa66635c-7a085853722dc6d2-01"
WRITE_LINE = logs.write_line


@pytest.fixture(autouse=True)
def isolated_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolate the log configuration from other tests and from a server in this process."""
    monkeypatch.setattr(logs, "write_line", WRITE_LINE)
    monkeypatch.setattr(logs, "_log", logs._Log())  # noqa: SLF001


def line(capsys: pytest.CaptureFixture[str], settings: LogSettings, **fields: object) -> str:
    logs.configure(settings)
    logs.log("WARNING", "event partial", **fields)
    (written,) = capsys.readouterr().out.splitlines()
    return written


def test_a_line_contains_the_requests_trace_and_span(capsys: pytest.CaptureFixture[str]) -> None:
    settings = LogSettings("json", "INFO", "warehouse-1")

    written = json.loads(line(capsys, settings, event_id="msg_1", trace=TRACEPARENT))

    assert written == {
        "severity": "WARNING",
        "message": "event partial",
        "event_id": "msg_1",
        "logging.googleapis.com/trace": (
            "projects/warehouse-1/traces/80e1afed08e019fc1110464cfa66635c"
        ),
        "logging.googleapis.com/spanId": "7a085853722dc6d2",
    }


@pytest.mark.parametrize("trace", [None, "", "nonsense", TRACEPARENT + "\n", TRACEPARENT.upper()])
def test_a_malformed_trace_is_omitted(
    capsys: pytest.CaptureFixture[str], trace: str | None
) -> None:
    settings = LogSettings("json", "INFO", "warehouse-1")

    assert set(json.loads(line(capsys, settings, trace=trace))) == {"severity", "message"}


def test_the_trace_is_omitted_without_a_project(capsys: pytest.CaptureFixture[str]) -> None:
    settings = LogSettings("json", "INFO", None)

    assert set(json.loads(line(capsys, settings, trace=TRACEPARENT))) == {"severity", "message"}


def test_a_hostile_value_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\nINFO forged\x1b[2J\u2028"

    as_json = line(capsys, LogSettings("json", "INFO", None), item_id=hostile)
    as_text = line(capsys, LogSettings("text", "INFO", None), item_id=hostile, trace=TRACEPARENT)

    assert json.loads(as_json)["item_id"] == hostile
    assert "item_id=a\N{REPLACEMENT CHARACTER}INFO forged\N{REPLACEMENT CHARACTER}[2J" in as_text
    assert "trace" not in as_text


def test_a_traceback_is_where_error_reporting_finds_it_and_has_no_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(LogSettings("json", "INFO", None), ["hunter2"])
    with pytest.raises(KeyError) as error:
        raise KeyError("header hunter2\x1b[2J")
    details = logs.stack_trace(error.value)

    logs.log("ERROR", "event unavailable", **details)
    as_json = json.loads(capsys.readouterr().out)
    logs.configure(LogSettings("text", "INFO", None), ["hunter2"])
    logs.log("ERROR", "event unavailable", **details)
    as_text = capsys.readouterr().out

    assert as_json["stack_trace"].startswith("Traceback (most recent call last):\n")
    assert as_json["stack_trace"].endswith("KeyError: 'header ***\\x1b[2J'\n")
    first, *trace = as_text.splitlines()
    assert first.endswith("ERROR   event unavailable")
    assert trace[0] == "    Traceback (most recent call last):"
    assert trace[-1] == "    KeyError: 'header ***\\x1b[2J'"
