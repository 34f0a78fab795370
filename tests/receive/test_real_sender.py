"""Requests as Svix's own server 1.100.0 has sent them (real_sender.json), at the time of each.

One of them: .venv/bin/pytest tests/receive/test_real_sender.py -k rotation
"""

import base64
import http.client
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from operate.google.deployment import ROOT
from sandbox.background import Background
from support.clock import Clock
from support.pubsub import Topic
from support.receiving import InProcess, RunningReceive, settings_of

pytestmark = pytest.mark.xdist_group("receive-real-sender")

REQUESTS: list[dict[str, Any]] = json.loads(
    (ROOT / "tests" / "support" / "real_sender.json").read_text()
)

StartWith = Callable[[list[str]], RunningReceive]


@pytest.fixture
def receive_with(topic: Topic, background: Background, tmp_path: Path) -> Iterator[StartWith]:
    """Start a `receive` with these secrets besides those of its own sender."""
    running: list[InProcess] = []
    lines: list[str] = []

    def start(secrets: list[str]) -> RunningReceive:
        settings = settings_of(topic, tmp_path)
        settings["SIGNING_SECRETS"] += f",{','.join(secrets)}"
        running.append(InProcess(settings, background, lines))
        return RunningReceive(running[-1], topic)

    yield start
    for function in reversed(running):
        function.stop()


def post(receive: RunningReceive, request: dict[str, Any], body: bytes) -> int:
    """Send the request as it was sent, header by header; return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", receive.port, timeout=30)
    connection.putrequest("POST", request["path"], skip_accept_encoding=True)
    for name, value in request["headers"]:
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


@pytest.mark.parametrize("request_", REQUESTS, ids=[each["note"] for each in REQUESTS])
def test_a_request_of_svix_itself_is_accepted(
    request_: dict[str, Any], receive_with: StartWith, clock: Clock
) -> None:
    receive = receive_with(request_["secrets"])
    body = base64.b64decode(request_["body_base64"])
    sent = {name.lower(): value for name, value in request_["headers"]}
    clock.set(int(sent.get("svix-timestamp") or sent["webhook-timestamp"]))

    assert post(receive, request_, body) == 204
    assert post(receive, request_, b"}" + body[1:]) == 401

    clock.set(None)
    event_id = sent.get("svix-id") or sent["webhook-id"]
    (published,) = (p for p in receive.published() if p.attributes["svix-id"] == event_id)
    assert published.data == body
    received_at = datetime.fromisoformat(published.attributes["received-at"])
    assert abs((datetime.now(UTC) - received_at).total_seconds()) < 60
