"""The servers outlast the front end, and a time without CPU: none closes an idle connection.

One of them: .venv/bin/pytest tests/system/test_connections.py -k idle
"""

import http.client
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.functions import Function
from sandbox.stack import new_secret

# gunicorn's own limit is 2 s and uvicorn's 5 s.
IDLE_SECONDS = 6

TARGETS = ("receive", "resolve", "reconcile")


@pytest.fixture
def functions(tmp_path: Path) -> Iterator[list[Function]]:
    settings = {
        "SIGNING_SECRETS": new_secret(),
        "EVENTS_TOPIC": "projects/sandbox/topics/unused",
        "PUBSUB_EMULATOR_HOST": "127.0.0.1:1",
        "DIMMY_API_URL": "http://127.0.0.1:1",
        "DIMMY_API_KEY": "a-test-api-key",
        "STORAGE_URL": f"file://{tmp_path}",
        "CLOUD_RUN_TIMEOUT_SECONDS": "1",  # as Cloud Run sets it
    }
    started = [Function(target, settings) for target in TARGETS]
    for function in started:
        function.wait_until_up()
    yield started
    for function in started:
        function.stop()


def test_an_idle_connection_stays_open(functions: list[Function]) -> None:
    connections = [http.client.HTTPConnection("127.0.0.1", each.port) for each in functions]

    for _ in range(2):
        assert_answered(connections)
        assert_open(connections)

    for connection in connections:
        connection.close()


def test_a_worker_without_cpu_is_not_taken_for_one_that_hangs(functions: list[Function]) -> None:
    connections = [http.client.HTTPConnection("127.0.0.1", each.port) for each in functions]
    assert_answered(connections)
    workers = [worker for each in functions for worker in each.workers]

    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    assert_open(connections)
    for worker in workers:
        worker.send_signal(signal.SIGCONT)

    assert_answered(connections)
    for connection in connections:
        connection.close()


def assert_answered(connections: list[http.client.HTTPConnection]) -> None:
    for connection in connections:
        # None of them does anything for these, but answers with a refusal.
        connection.request("POST", "/?unknown=1", body=b"{}")
        response = connection.getresponse()
        response.read()
        assert response.status == 400
        assert not response.will_close


def assert_open(connections: list[http.client.HTTPConnection]) -> None:
    """None is closed within IDLE_SECONDS."""
    closed, _, _ = select.select([each.sock for each in connections], [], [], IDLE_SECONDS)
    assert closed == []
