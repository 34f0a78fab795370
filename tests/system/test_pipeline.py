"""End to end: a signed webhook is sent, and its items are stored.

One of them: .venv/bin/pytest tests/system/test_pipeline.py -k "vendor and own"
"""

import base64
import functools
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
import requests

from operate.commands.redrive import redrive
from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi, Fault
from sandbox.installation import SandboxDeadLetters, SandboxInstallation
from sandbox.pubsub_admin import PubSubAdmin
from sandbox.stack import DEAD_LETTERS, PubSubKind, Stack, start_stack
from sandbox.svix_sender import Message, new_message
from support.waiting import wait_for

VARIETY = random.Random()


def api_of(stack: Stack) -> DimmyApi:
    assert stack.api
    return stack.api


def scanned(stack: Stack, count: int) -> list[str]:
    return [api_of(stack).put(catalogue.make_item(VARIETY)) for _ in range(count)]


def finished_receipt(stack: Stack, message: Message) -> dict[str, Any]:
    def finished() -> dict[str, Any] | None:
        receipt = stack.receipt(message.message_id)
        return receipt if receipt and receipt["outcome"] != "partial" else None

    return wait_for(finished, f"a finished receipt of {message.message_id}")


@pytest.mark.parametrize("count", [1, 5, 500])
def test_scanned_items_are_stored_as_the_api_returns_them(stack: Stack, count: int) -> None:
    item_ids = scanned(stack, count)

    message = stack.send({"item_ids": item_ids})

    assert message.delivered
    receipt = finished_receipt(stack, message)
    assert receipt["kind"] == "items.scanned"
    assert receipt["items"] == dict.fromkeys(item_ids, "stored")
    assert receipt["payload"] == {"item_ids": item_ids}
    for item_id in item_ids:
        assert stack.item(item_id) == api_of(stack).body_of(item_id)
        assert api_of(stack).requests_for(item_id) == 1


def test_a_full_payload_is_stored_without_an_api_request(stack: Stack) -> None:
    item = catalogue.make_item(VARIETY)

    message = stack.send(item)

    receipt = finished_receipt(stack, message)
    assert receipt["kind"] == "item.scanned.full_payload"
    assert receipt["items"] == {item["_id"]: "stored"}
    assert json.loads(stack.item(item["_id"]) or b"") == item
    assert api_of(stack).requests_for(item["_id"]) == 0


def rows(stack: Stack, view: str, column: str, value: str) -> list[dict[str, Any]]:
    """The rows of a view in which this column has this value."""
    assert stack.warehouse
    return stack.warehouse.query(f"SELECT * FROM {view} WHERE {column} = '{value}'").dicts()


def test_scanned_items_are_rows_of_the_view(stack: Stack) -> None:
    items = [catalogue.make_item(VARIETY) for _ in range(5)]
    item_ids = [api_of(stack).put(item) for item in items]

    message = stack.send({"item_ids": item_ids})

    for item_id in item_ids:
        (row,) = wait_for(functools.partial(rows, stack, "items", "item_id", item_id), "the row")
        assert row["item"].encode() == api_of(stack).body_of(item_id) == stack.item(item_id)
        assert row["event_id"] == message.message_id
        assert row["object"] == f"items/{item_id}.json"


def test_a_newer_version_replaces_the_row_and_the_older_one_is_kept(stack: Stack) -> None:
    item = catalogue.make_item(VARIETY)
    item_id = item["_id"]
    finished_receipt(stack, stack.send(item))
    newer = catalogue.updated(item, flow_id="Corrected")

    stack.send(newer)

    def is_replaced() -> bool:
        return [row["flow_id"] for row in rows(stack, "items", "item_id", item_id)] == ["Corrected"]

    wait_for(is_replaced, "the newer row")
    assert stack.send(item).delivered, "an older version that comes last"
    of_item = "JSON_VALUE(attributes, '$.item-id')"
    wait_for(lambda: len(rows(stack, "item_versions", of_item, item_id)) == 3, "all versions")
    assert is_replaced()


def test_an_event_is_a_row_with_the_state_of_its_latest_attempt(stack: Stack) -> None:
    item_id = scanned(stack, 1)[0]
    api_of(stack).fail(Fault(status=404, item_id=item_id, times=1))

    message = stack.send({"item_ids": [item_id]})

    def finished_row() -> dict[str, Any] | None:
        found = rows(stack, "events", "event_id", message.message_id)
        return found[0] if found and found[0]["outcome"] == "done" else None

    row = wait_for(finished_row, "the finished event")
    assert len(rows(stack, "events", "event_id", message.message_id)) == 1
    assert (row["kind"], row["attempts"], row["items"]) == ("items.scanned", 2, 1)
    assert row["received_at"] < row["attempted_at"]
    assert row["milliseconds"] > 0


@pytest.mark.parametrize("event", ["scanned", "full payload"])
def test_the_vendor_example_is_stored_complete_on_one_compact_line(
    stack: Stack, event: str
) -> None:
    example = catalogue.VENDOR_EXAMPLE | {"_id": catalogue.new_id(VARIETY)}
    pretty = json.dumps(example, indent=2).encode()
    api_of(stack).put(example, body=pretty)

    message = stack.send(pretty if event == "full payload" else {"item_ids": [example["_id"]]})

    finished_receipt(stack, message)
    line = stack.item(example["_id"])
    assert line == json.dumps(example, separators=(",", ":")).encode()


def test_a_svix_ping_is_stored_and_acknowledged(stack: Stack) -> None:
    message = stack.send({"success": True})

    receipt = finished_receipt(stack, message)
    assert receipt["outcome"] == "unrecognised"
    assert receipt["payload"] == {"success": True}


def test_a_verified_body_that_is_not_json_is_stored_as_base64(stack: Stack) -> None:
    message = stack.send("größe: 12 cm".encode())

    receipt = finished_receipt(stack, message)
    assert (receipt["outcome"], receipt["payload_encoding"]) == ("unrecognised", "base64")
    assert base64.b64decode(receipt["payload"]) == "größe: 12 cm".encode()


@pytest.mark.parametrize("megabytes", [12, 31])
def test_a_body_too_large_for_a_message_is_passed_through_storage(
    stack: Stack, megabytes: int
) -> None:
    item = catalogue.padded(catalogue.make_item(VARIETY), megabytes * 1_000_000)
    body = json.dumps(item, separators=(",", ":")).encode()
    assert len(body) > megabytes * 1_000_000

    message = stack.send(body)

    assert message.delivered
    receipt = finished_receipt(stack, message)
    assert receipt["items"] == {item["_id"]: "stored"}
    assert stack.payload(message.message_id) == body
    assert stack.item(item["_id"]) == body


@pytest.mark.parametrize("large", [False, True], ids=["in a message", "through storage"])
def test_an_event_with_the_longest_id_is_stored(stack: Stack, large: bool) -> None:
    event_id = f"msg_{large:d}{'x' * 251}"
    body = {"items": "y" * 9_600_000} if large else {"items": 1}

    message = stack.send(body, event_id)

    assert message.delivered
    receipt = finished_receipt(stack, message)
    assert (receipt["event_id"], receipt["payload"]) == (event_id, body)


def test_a_body_too_large_for_a_function_is_refused_with_advice(stack: Stack) -> None:
    message = stack.send(b"x" * (33 * 1024 * 1024))

    attempt = message.attempts[-1]
    assert attempt.status == 413
    assert "items.scanned" in json.loads(attempt.response)["message"]
    assert stack.payload(message.message_id) is None


def test_an_event_delivered_four_times_is_stored_once(stack: Stack) -> None:
    item_ids = scanned(stack, 3)
    message = new_message({"item_ids": item_ids})

    def has_attempts(count: int) -> bool:
        return (stack.receipt(message.message_id) or {}).get("attempts") == count

    for count in range(1, 5):
        assert stack.attempt(message).delivered
        # One that is overtaken by the next one finds a finished receipt and does not count.
        wait_for(functools.partial(has_attempts, count), f"{count} attempts")

    receipt = finished_receipt(stack, message)
    assert set(receipt["items"]) == set(item_ids)
    assert [stack.item(i) for i in item_ids] == [api_of(stack).body_of(i) for i in item_ids]


def test_a_resend_updates_the_item(stack: Stack) -> None:
    item = catalogue.make_item(VARIETY)
    message = new_message({"item_ids": [api_of(stack).put(item)]})
    assert stack.attempt(message).delivered
    finished_receipt(stack, message)
    api_of(stack).put(catalogue.updated(item, flow_id="Corrected"))

    assert stack.attempt(message).delivered

    expected = api_of(stack).body_of(item["_id"])
    wait_for(lambda: stack.item(item["_id"]) == expected, "the newer item in storage")


def test_a_request_forwarded_by_svix_listen_is_accepted(stack: Stack) -> None:
    """The CLI posts the relayed method, headers and bytes, with a user agent of its own."""
    item_ids = scanned(stack, 1)
    message = new_message({"item_ids": item_ids})
    signed = {name.title(): value for name, value in stack.sender.sign(message).items()}
    forwarded = signed | {
        "User-Agent": "Go-http-client/1.1",
        "Accept-Encoding": "gzip",
        "X-Forwarded-For": "10.0.0.1",
        "Traceparent": "00-80e1afed08e019fc1110464cfa66635c-7a085853722dc6d2-01",
    }

    response = requests.post(
        f"{stack.receive.url}webhook", data=message.body, headers=forwarded, timeout=15
    )

    assert response.status_code == 204
    assert finished_receipt(stack, message)["items"] == {item_ids[0]: "stored"}


def test_a_pubsub_outage_gives_503_and_loses_no_event(stack: Stack) -> None:
    message = new_message({"item_ids": scanned(stack, 1)})
    stack.cut_pubsub()
    try:
        refused = stack.attempt(message)
    finally:
        stack.restore_pubsub()

    assert refused.status == 503, refused
    assert refused.seconds < 12
    assert refused.headers["Retry-After"].isdecimal()
    assert json.loads(refused.response)["error"] == "unavailable"
    assert stack.receipt(message.message_id) is None
    assert stack.attempt(message).delivered
    finished_receipt(stack, message)


def test_an_event_with_a_missing_item_is_retried_and_becomes_a_dead_letter(
    stack: Stack,
) -> None:
    present, missing = *scanned(stack, 1), catalogue.new_id(VARIETY)

    message = stack.send({"item_ids": [missing, present]})

    data = wait_for(lambda: dead_letter_data(stack.admin, message.message_id), "a dead letter")
    assert json.loads(data or b"") == {"item_ids": [missing, present]}
    receipt = stack.receipt(message.message_id) or {}
    assert receipt["outcome"] == "partial"
    assert receipt["items"] == {missing: "404: Item not found", present: "stored"}
    assert receipt["attempts"] == 5
    assert stack.item(present) == api_of(stack).body_of(present)
    assert api_of(stack).requests_for(present) == 1, "a stored item is not fetched again"


def test_a_redrive_finishes_a_poison_event_once_the_fault_is_solved(
    stack: Stack,
) -> None:
    good, poison = scanned(stack, 2)
    api_of(stack).fail(Fault(status=422, item_id=poison))
    message = stack.send({"item_ids": [poison, good]})
    wait_for(lambda: (stack.receipt(message.message_id) or {}).get("attempts") == 5, "5 attempts")

    installation = SandboxInstallation({"DATA": str(stack.folder)})
    dead_letters = SandboxDeadLetters(stack.admin.host, stack.resolve.url)
    wait_for(lambda: message.message_id in dead_letters.event_ids(), "the dead letter")
    dead_letters.patience_seconds = 2.0
    left = redrive(installation, dead_letters, dead_letters.event_ids())
    assert message.message_id in left
    unfinished = stack.receipt(message.message_id) or {}
    assert unfinished["items"] == {poison: "422: an injected fault", good: "stored"}
    # A push that began before redrive stopped pushing may still be running, and would finish the
    # event by itself. Once the message can be pulled, no push is running.
    wait_for(lambda: message.message_id in dead_letters.event_ids(), "the dead letter again")

    api_of(stack).clear_faults()
    dead_letters.patience_seconds = 15.0
    left = redrive(installation, dead_letters, dead_letters.event_ids())

    assert message.message_id not in left
    receipt = finished_receipt(stack, message)
    assert receipt["items"] == {poison: "stored", good: "stored"}
    assert receipt["redriven"] is True
    assert receipt["payload"] == {"item_ids": [poison, good]}
    assert api_of(stack).requests_for(good) == 1


def test_every_event_is_finished_without_help_after_an_api_outage(
    pubsub_kind: PubSubKind, tmp_path: Path
) -> None:
    """This stack allows 100 attempts; with fewer, the events would become dead letters."""
    backoff = None if pubsub_kind == "google" else (0.2, 1.0)
    with start_stack(
        tmp_path, pubsub=pubsub_kind, backoff_seconds=backoff, max_delivery_attempts=100
    ) as stack:
        api = api_of(stack)
        events = [scanned(stack, 2) for _ in range(4)]
        stack.background.run(api.stop())
        messages = [stack.send({"item_ids": item_ids}) for item_ids in events]
        assert all(message.delivered for message in messages), (
            "Svix must not notice an outage of the API"
        )

        def receipts() -> list[dict[str, Any]]:
            return [stack.receipt(message.message_id) or {} for message in messages]

        wait_for(lambda: all(r.get("attempts", 0) >= 2 for r in receipts()), "two attempts each")
        states = {state for r in receipts() for state in r["items"].values()}
        assert states <= {"connection failed: ConnectionError", "pending"}
        stack.background.run(api.start())

        wait_for(lambda: all(r["outcome"] == "done" for r in receipts()), "all events to be done")

        for item_id in itertools.chain(*events):
            assert stack.item(item_id) == api.body_of(item_id)
            assert api.requests_for(item_id) == 1


def dead_letter_data(admin: PubSubAdmin, event_id: str) -> bytes | None:
    """The data of the event's dead letter, if it can be pulled. Acknowledges others before it."""
    for message in admin.pull(DEAD_LETTERS):
        admin.acknowledge(DEAD_LETTERS, [message])
        if message.attributes["svix-id"] == event_id:
            return message.data
    return None
