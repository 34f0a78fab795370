"""The public signature cases (signature_cases.json), sent over HTTP to a running `receive`.

Each case is shifted to the present: all its times move by the same span, and its valid signatures
are recomputed for the new timestamp. The published message is compared byte for byte.

One of them: .venv/bin/pytest tests/receive/test_signature_cases.py -k F01
"""

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from svix.webhooks import Webhook

from operate.google.deployment import ROOT
from sandbox.background import Background
from sandbox.functions import SOURCE, Function
from sandbox.pubsub_admin import PulledMessage
from sandbox.stack import new_secret
from sandbox.svix_sender import SvixSender, new_message
from support.cases import SIGNATURE_CASES
from support.pubsub import Topic

SUPPORT = ROOT / "tests" / "support"

pytestmark = pytest.mark.xdist_group("cases")


@pytest.fixture(scope="module")
def receive_with(
    topic: Topic, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[tuple[str, ...]], tuple[Function, str]]]:
    """Start a `receive` with these secrets; return it and the secret of the sentinel events."""
    sentinel_secret = new_secret()
    running: dict[tuple[str, ...], Function] = {}

    def start(secrets: tuple[str, ...]) -> tuple[Function, str]:
        if secrets not in running:
            running[secrets] = Function(
                "receive",
                {
                    "CASE_SECRETS": json.dumps([*secrets, sentinel_secret]),
                    "PYTHONPATH": str(SOURCE.parent),
                    "EVENTS_TOPIC": topic.path,
                    "STORAGE_URL": f"file://{tmp_path_factory.mktemp('cases')}",
                    "PUBSUB_EMULATOR_HOST": topic.host,
                },
                source=SUPPORT / "unchecked_secrets" / "main.py",
            )
            running[secrets].wait_until_up()
        return running[secrets], sentinel_secret

    yield start
    for function in running.values():
        function.stop()


@pytest.mark.parametrize("case", SIGNATURE_CASES["verify_cases"], ids=lambda case: case["id"])
def test_a_public_case_is_accepted_or_refused_as_expected(
    case: dict[str, Any],
    receive_with: Callable[[tuple[str, ...]], tuple[Function, str]],
    topic: Topic,
    background: Background,
) -> None:
    function, sentinel_secret = receive_with(tuple(case["secrets"]))
    body = _body(case)
    while True:
        now = int(time.time())
        headers = _shifted_to_the_present(case, body, now)
        response = requests.post(function.url, data=body, headers=dict(headers), timeout=15)
        accepted = response.status_code == 204
        is_expected = case["expected"] in {"either", "accept" if accepted else "reject"}
        if is_expected or int(time.time()) == now:
            break
        # A time at the edge of the tolerance may have crossed it: it is repeated.
        _published(function, sentinel_secret, topic, background)

    assert is_expected, response.text
    if not accepted:
        assert response.status_code in {400, 401}
        assert set(response.json()) == {"error", "message"}
    published = _published(function, sentinel_secret, topic, background)
    assert [message.data for message in published] == ([body] if accepted else [])
    if accepted:
        sent = {name.lower().replace("webhook-", "svix-"): value for name, value in headers}
        attributes = published[0].attributes
        assert attributes["svix-id"] == sent["svix-id"]
        assert attributes["svix-timestamp"] == sent["svix-timestamp"]
        received_at = datetime.fromisoformat(attributes["received-at"])
        assert abs((datetime.now(UTC) - received_at).total_seconds()) < 60
        assert set(attributes) == {"svix-id", "svix-timestamp", "received-at"}


@pytest.mark.parametrize(
    "vector",
    [vector for vector in SIGNATURE_CASES["sign_vectors"] if "secret" in vector],
    ids=lambda vector: vector["id"],
)
def test_signatures_match_the_public_vectors(vector: dict[str, Any]) -> None:
    text, count = vector.get("payload_repeat", [vector.get("payload"), 1])

    signature = Webhook(vector["secret"]).sign(
        vector["msg_id"], datetime.fromtimestamp(vector["timestamp"], UTC), text * count
    )

    assert signature == vector["signature"]


def _body(case: dict[str, Any]) -> bytes:
    if "body_b64" in case:
        return base64.b64decode(case["body_b64"])
    return str(case["body_utf8"]).encode()


def _shifted_to_the_present(case: dict[str, Any], body: bytes, now: int) -> list[tuple[str, str]]:
    """The case's headers, with all times shifted by one span and valid signatures recomputed."""
    span = now - case["now"]
    values = {name.lower().rpartition("-")[2]: value for name, value in case["headers"]}
    signed_times = {case["now"]}
    if values.get("timestamp", "").isdecimal():
        signed_times.add(int(values["timestamp"]))
    recomputed = {}
    for secret in case["secrets"]:
        webhook = Webhook(secret)
        for moment in signed_times if "id" in values else ():
            old, new = (
                webhook.sign(values["id"], datetime.fromtimestamp(time_, UTC), body.decode())
                for time_ in (moment, moment + span)
            )
            recomputed[old] = new
    shifted = []
    for name, value in case["headers"]:
        if name.lower().endswith("-timestamp") and value.isdecimal():
            shifted.append((name, str(int(value) + span)))
        elif name.lower().endswith("-signature"):
            shifted.append(
                (name, " ".join(recomputed.get(item, item) for item in value.split(" ")))
            )
        else:
            shifted.append((name, value))
    return shifted


def _published(
    function: Function, sentinel_secret: str, topic: Topic, background: Background
) -> list[PulledMessage]:
    """Everything published since the last call; a sentinel event, sent now, marks the end."""
    sentinel = new_message(b"sentinel")

    async def send() -> None:
        async with SvixSender(function.url, sentinel_secret) as sender:
            assert (await sender.attempt(sentinel)).delivered

    background.run(send())
    return topic.published_until(sentinel.message_id)
