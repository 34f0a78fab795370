"""`resolve` as Pub/Sub sees it: which events it acknowledges, and which API requests it makes.

One of them: .venv/bin/pytest tests/resolve/test_resolver.py -k hostile
"""

import base64
import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from pipeline.resolve.resolver import Resolver
from pipeline.resolve.settings import read_resolve_settings
from pipeline.store.items import Item
from pipeline.store.store import PutResult, Store
from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi, Fault
from sandbox.svix_sender import new_message_id
from support.resolving import RunningResolve, envelope, start_resolve
from support.waiting import wait_for

RNG = random.Random()

pytestmark = pytest.mark.xdist_group("resolve")


@pytest.fixture(scope="module")
def shared_resolve(
    api: DimmyApi, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningResolve]:
    folder = tmp_path_factory.mktemp("resolve")
    function = start_resolve(api, folder)
    yield RunningResolve(function, api, folder)
    function.stop()


@pytest.fixture
def resolve(shared_resolve: RunningResolve) -> Iterator[RunningResolve]:
    yield shared_resolve
    shared_resolve.api.clear_faults()


def test_an_event_is_acknowledged_once_all_its_items_are_stored(resolve: RunningResolve) -> None:
    item_ids = [resolve.put_item() for _ in range(3)]

    status, receipt = resolve.deliver({"item_ids": [*item_ids, item_ids[0]]})

    assert status == 204
    assert receipt["items"] == dict.fromkeys(item_ids, "stored")
    assert receipt["outcome"] == "done"
    assert [resolve.api.requests_for(item_id) for item_id in item_ids] == [1, 1, 1]


def test_an_event_without_items_is_done(resolve: RunningResolve) -> None:
    status, receipt = resolve.deliver({"item_ids": []})

    assert (status, receipt["outcome"], receipt["items"]) == (204, "done", {})


@pytest.mark.parametrize("attempt", [2, None], ids=["attempt 2", "no attempt number"])
def test_a_later_attempt_fetches_only_missing_items(
    resolve: RunningResolve, attempt: int | None
) -> None:
    stored, late = resolve.put_item(), catalogue.make_item(RNG)
    event = {"item_ids": [stored, late["_id"]]}
    status, receipt = resolve.deliver(event, event_id := new_message_id())
    assert (status, receipt["outcome"]) == (503, "partial")
    assert receipt["items"] == {stored: "stored", late["_id"]: "404: Item not found"}
    resolve.api.put(late)

    status, receipt = resolve.deliver(event, event_id, attempt)

    assert (status, receipt["outcome"], receipt["attempts"]) == (204, "done", 2)
    assert receipt["items"] == {stored: "stored", late["_id"]: "stored"}
    assert resolve.api.requests_for(stored) == 1


def test_a_lost_acknowledgement_causes_no_further_api_request(resolve: RunningResolve) -> None:
    item_id = resolve.put_item()
    resolve.deliver({"item_ids": [item_id]}, event_id := new_message_id())

    status, receipt = resolve.deliver({"item_ids": [item_id]}, event_id, attempt=2)

    assert (status, receipt["attempts"]) == (204, 1)
    assert resolve.api.requests_for(item_id) == 1


@pytest.mark.parametrize(
    "attempt", [1, 2, None], ids=["attempt 1", "attempt 2", "no attempt number"]
)
def test_a_resend_of_a_finished_event_fetches_its_items_again(
    resolve: RunningResolve, attempt: int | None
) -> None:
    item_id = resolve.put_item()
    resolve.deliver({"item_ids": [item_id]}, event_id := new_message_id())

    status, receipt = resolve.deliver({"item_ids": [item_id]}, event_id, attempt, delivery=2)

    assert (status, receipt["items"], receipt["attempts"]) == (204, {item_id: "unchanged"}, 2)
    assert resolve.api.requests_for(item_id) == 2


def test_a_repetition_whose_attempt_number_fell_back_fetches_nothing_again(
    resolve: RunningResolve,
) -> None:
    stored, late = resolve.put_item(), catalogue.make_item(RNG)
    event = {"item_ids": [stored, late["_id"]]}
    resolve.deliver(event, event_id := new_message_id())
    resolve.api.put(late)

    assert resolve.deliver(event, event_id, attempt=1)[0] == 204
    assert resolve.deliver(event, event_id, attempt=1)[0] == 204

    assert resolve.api.requests_for(stored) == 1
    assert resolve.api.requests_for(late["_id"]) == 2


def test_a_repetition_of_a_message_published_by_hand_fetches_nothing_again(
    resolve: RunningResolve,
) -> None:
    item_id = resolve.put_item()
    pushed = envelope({"item_ids": [item_id]}, "")
    pushed["message"] |= {"messageId": "1234567", "attributes": {}}
    for published_at in ("2026-11-01T08:00:00.1Z", "2026-11-01T08:00:05.25Z"):
        pushed["message"]["publishTime"] = published_at
        assert resolve.push(pushed).status_code == 204

    assert resolve.api.requests_for(item_id) == 1
    assert resolve.receipt("1234567")["received_at"] == "2026-11-01T08:00:00.1Z"


def test_an_older_delivery_is_acknowledged_once_a_resend_has_stored_everything(
    resolve: RunningResolve,
) -> None:
    item_id = resolve.put_item()
    event = {"item_ids": [item_id]}
    resolve.deliver(event, event_id := new_message_id(), delivery=2)

    status, receipt = resolve.deliver(event, event_id, attempt=2, delivery=1)

    assert (status, receipt["attempts"]) == (204, 1)
    assert resolve.api.requests_for(item_id) == 1


def test_an_item_that_an_older_delivery_stores_is_not_settled_for_a_resend(
    resolve: RunningResolve,
) -> None:
    item_id = resolve.put_item()
    event, event_id = {"item_ids": [item_id]}, new_message_id()
    resolve.api.fail(Fault(status=503, item_id=item_id))
    assert resolve.deliver(event, event_id, delivery=2)[0] == 503
    resolve.api.clear_faults()

    assert resolve.deliver(event, event_id, delivery=1)[0] == 204
    receipt = resolve.receipt(event_id)
    assert receipt["items"] == {item_id: "503: an injected fault"}
    assert receipt["outcome"] == "partial"

    assert resolve.deliver(event, event_id, attempt=2, delivery=2)[0] == 204


HOSTILE = [
    "../x",
    "a/b",
    "http://169.254.169.254/",
    "%2e%2e",
    "x" * 10_240,
    "",
    "\ud800",
    7,
    None,
    {"a": 1},
]


def test_ten_thousand_items_are_requested_once_each_in_bounded_memory(
    api: DimmyApi, tmp_path: Path
) -> None:
    function = start_resolve(api, tmp_path, LOG_LEVEL="INFO")
    try:
        running_resolve = RunningResolve(function, api, tmp_path)
        item_ids = [running_resolve.put_item() for _ in range(10_000)]
        before = len(api.requests)
        status, receipt = running_resolve.deliver({"item_ids": [*item_ids, *item_ids[:500]]})
        megabytes = [worker.memory_info().rss / 1e6 for worker in function.workers]
    finally:
        function.stop()

    assert (status, receipt["outcome"], receipt["attempts"]) == (204, "done", 1)
    assert receipt["items"] == dict.fromkeys(item_ids, "stored")
    requested = [request.path.removeprefix("/items/") for request in api.requests[before:]]
    assert sorted(requested) == sorted(item_ids)
    assert max(megabytes) < 150, "only the states of items may stay in memory, not the items"


def test_hostile_ids_are_reported_and_never_requested(resolve: RunningResolve) -> None:
    good = resolve.put_item()
    before = len(resolve.api.requests)

    status, receipt = resolve.deliver({"item_ids": [*HOSTILE, good, good]})

    assert status == 503
    assert receipt["items"].pop(good) == "stored"
    assert set(receipt["items"].values()) == {"malformed: not an item id"}
    texts = ["../x", "a/b", "http://169.254.169.254/", "%2e%2e", "", "\ud800"]
    others = ["7 (not a string)", "null (not a string)", '{"a": 1} (not a string)']
    assert set(receipt["items"]) == {*texts, *others, "x" * 80 + "... (10240 characters)"}
    assert [request.path for request in resolve.api.requests[before:]] == [f"/items/{good}"]
    assert {path.name for path in resolve.folder.iterdir()} <= {"items", "events", ".lock"}


def test_a_number_and_an_id_of_the_same_digits_are_reported_separately(
    resolve: RunningResolve,
) -> None:
    digits = "123456789012345678901234"
    resolve.api.put(catalogue.make_item(RNG) | {"_id": digits})

    status, receipt = resolve.deliver({"item_ids": [int(digits), digits]})

    assert status == 503
    assert receipt["items"] == {
        digits: "stored",
        f"{digits} (not a string)": "malformed: not an item id",
    }


@pytest.mark.parametrize("item_id", ["../../x", "\ud800", 7, None])
def test_a_full_payload_with_a_hostile_id_is_recorded_but_not_stored_as_an_item(
    resolve: RunningResolve, item_id: object
) -> None:
    status, receipt = resolve.deliver({"_id": item_id, "flow_id": "F"})

    assert (status, receipt["outcome"]) == (503, "partial")
    (reason,) = receipt["items"].values()
    assert reason == "malformed: its _id is missing or malformed"
    assert receipt["payload"] == {"_id": item_id, "flow_id": "F"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"message": 1}',
        b'{"message": {"data": ""}}',
        b'{"message": {"messageId": "1", "data": "***"}}',
        b'{"message": {"messageId": "1", "attributes": {"svix-id": "../x"}}}',
        b'{"message": {"messageId": "1"}, "deliveryAttempt": true}',
        b'{"message": {"messageId": "1"}, "deliveryAttempt": "often"}',
        b'{"message": {"messageId": "1"}, "deliveryAttempt": 1.5}',
        b'{"message": {"messageId": "1"}, "deliveryAttempt": 1e999}',
        b'{"message": {"messageId": null, "data": ""}}',
        b'{"message": {"messageId": 1}}',
        b'{"message": {"messageId": "1", "data": "A"}}',
        b'{"message": {"messageId": "1", "data": "\\u00e4AAA"}}',
        b'{"message": {"messageId": "1", "attributes": {"svix-id": 1}}}',
        json.dumps(envelope(b"", "msg_1", payload="payloads/msg_2")).encode(),
        json.dumps(envelope(b"", "msg_1", payload="../secret")).encode(),
    ],
)
def test_a_malformed_push_request_is_refused(resolve: RunningResolve, body: bytes) -> None:
    response = resolve.push(body)

    assert response.status_code == 400
    assert response.json()["error"] == "malformed_envelope"


@pytest.mark.parametrize(
    "changes",
    [
        {"attributes": None, "publishTime": None},
        {"message_id": "20001", "messageId": None},
        {"message_id": "20001", "publish_time": "2026-11-01T08:00:00Z"},
        {"orderingKey": "", "ordering_key": None, "unknown": {"a": [1]}},
    ],
)
@pytest.mark.parametrize("encoding", ["standard", "url-safe", "without padding"])
@pytest.mark.parametrize(
    "attempt",
    [{}, {"deliveryAttempt": None}, {"deliveryAttempt": "3"}, {"delivery_attempt": 3.0}],
    ids=["none", "null", "text", "float"],
)
def test_an_envelope_is_read_as_protocol_buffers_read_theirs(
    resolve: RunningResolve, changes: dict[str, Any], encoding: str, attempt: dict[str, Any]
) -> None:
    item_id = resolve.put_item()
    # Its base64 has both characters that differ between the alphabets, and padding.
    body = json.dumps({"filling": "???>>>~~~", "item_ids": [item_id]}).encode() + b"  "
    body += b" " * (-(len(body) - 1) % 3)
    data = base64.b64encode(body).decode()
    assert data.endswith("=")
    assert set("+/") <= set(data)
    if encoding != "standard":
        data = data.replace("+", "-").replace("/", "_")
    if encoding == "without padding":
        data = data.rstrip("=")
    message = {"messageId": "20001", "publishTime": "2026-11-01T08:00:00Z", "data": data} | changes
    (resolve.folder / "events" / "20001.json").unlink(missing_ok=True)

    response = resolve.push({"message": message} | attempt)

    assert response.status_code == 204, response.text
    receipt = resolve.receipt("20001")
    assert receipt["items"] == {item_id: "stored"}
    assert receipt["attempts"] == (3 if any(attempt.values()) else 1)


def test_a_body_may_begin_with_a_byte_order_mark(resolve: RunningResolve) -> None:
    mark = b"\xef\xbb\xbf"
    item = catalogue.make_item(RNG)
    listed = resolve.put_item()
    for event, item_id in ((item, item["_id"]), ({"item_ids": [listed]}, listed)):
        pushed = json.dumps(envelope(mark + json.dumps(event).encode(), "msg_marked")).encode()

        assert resolve.push(mark + pushed).status_code == 204

        receipt = resolve.receipt("msg_marked")
        assert (receipt["items"], receipt["payload"]) == ({item_id: "stored"}, event)
        assert json.loads(resolve.read(f"items/{item_id}.json") or b"")["_id"] == item_id
        (resolve.folder / "events" / "msg_marked.json").unlink()


def test_a_manually_published_message_is_resolved_under_its_message_id(
    resolve: RunningResolve,
) -> None:
    item_id = resolve.put_item()
    data = base64.b64encode(json.dumps({"item_ids": [item_id]}).encode()).decode()

    response = resolve.push({"message": {"messageId": "10042", "data": data}})

    assert response.status_code == 204
    assert resolve.receipt("10042")["items"] == {item_id: "stored"}


def test_a_message_whose_payload_is_missing_is_not_acknowledged(resolve: RunningResolve) -> None:
    pushed = envelope(b"", "msg_missing", payload="payloads/msg_missing")

    response = resolve.push(pushed)

    assert response.status_code == 503
    assert "payloads/msg_missing" in response.json()["message"]


def test_a_rejected_key_stops_the_attempt_and_is_never_logged(
    api: DimmyApi, tmp_path: Path
) -> None:
    function = start_resolve(
        api, tmp_path, DIMMY_API_KEY="a-revoked-api-key", DIMMY_CONCURRENCY="2"
    )
    try:
        running_resolve = RunningResolve(function, api, tmp_path)
        item_ids = [running_resolve.put_item() for _ in range(20)]
        before = len(api.requests)
        status, receipt = running_resolve.deliver({"item_ids": item_ids})
    finally:
        function.stop()

    assert status == 503
    assert len(api.requests) - before <= 4
    assert set(receipt["items"]) == set(item_ids)
    assert set(receipt["items"].values()) == {
        "401: Invalid API key",
        "not tried: 401: Invalid API key",
    }
    assert not any("a-revoked-api-key" in line for line in function.process.lines)


def test_an_event_is_not_acknowledged_when_storage_fails(api: DimmyApi, tmp_path: Path) -> None:
    (tmp_path / "items").write_text("a file where the folder should be")
    function = start_resolve(api, tmp_path)
    try:
        running_resolve = RunningResolve(function, api, tmp_path)
        item_id = running_resolve.put_item()
        status, receipt = running_resolve.deliver({"item_ids": [item_id]})
        (tmp_path / "items").unlink()
        (tmp_path / "events").rename(tmp_path / "moved")
        (tmp_path / "events").write_text("a file where the folder should be")
        without_receipt = running_resolve.push(envelope({"item_ids": [item_id]}, "msg_2"))
    finally:
        function.stop()

    assert status == 503
    assert receipt["items"][item_id].startswith("storage: ")
    assert (without_receipt.status_code, without_receipt.json()["error"]) == (503, "unavailable")


def test_an_attempt_stops_at_its_deadline_and_records_it(api: DimmyApi, tmp_path: Path) -> None:
    function = start_resolve(
        api, tmp_path, ATTEMPT_SECONDS="1", DIMMY_CONCURRENCY="1", LOG_FORMAT="text"
    )
    running_resolve = RunningResolve(function, api, tmp_path)
    item_ids = [running_resolve.put_item() for _ in range(30)]
    api.latency = lambda: 0.2
    try:
        status, receipt = running_resolve.deliver({"item_ids": item_ids})
        api.latency = lambda: 0.0
        last_status, attempt = status, 1
        while last_status != 204 and attempt < len(item_ids):
            attempt += 1
            last_status, finished = running_resolve.deliver(
                {"item_ids": item_ids}, receipt["event_id"], attempt=attempt
            )
    finally:
        api.latency = lambda: 0.0
        function.stop()

    assert status == 503
    assert "stored" in receipt["items"].values()
    assert "not tried: this attempt's time was over" in receipt["items"].values()
    assert (last_status, finished["outcome"]) == (204, "done")
    assert any("WARNING" in line and "event partial" in line for line in function.process.lines)


def test_a_long_attempt_stores_its_receipt_at_intervals(
    api: DimmyApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, so that the interval can be short."""
    monkeypatch.setattr("pipeline.resolve.progress.FIRST_WRITE_SECONDS", 0.05)
    settings = {"STORAGE_URL": f"file://{tmp_path}", "DIMMY_API_URL": api.url}
    resolver = Resolver(
        read_resolve_settings(settings | {"DIMMY_API_KEY": api.key, "DIMMY_CONCURRENCY": "1"})
    )
    item_ids = [api.put(catalogue.make_item(RNG)) for _ in range(40)]
    api.latency = lambda: 0.02
    api.hold_requests(item_ids[-1])
    body = json.dumps(envelope({"item_ids": item_ids}, "msg_long")).encode()
    receipt_path = tmp_path / "events" / "msg_long.json"
    with ThreadPoolExecutor(1) as threads:
        request = Request(EnvironBuilder(method="POST", data=body).get_environ())
        handled = threads.submit(resolver.handle, request)
        wait_for(receipt_path.exists, "the first receipt")
        early = json.loads(receipt_path.read_bytes())
        api.hold_requests(None)
        response = handled.result()
    api.latency = lambda: 0.0

    assert early["outcome"] == "partial"
    assert "pending" in early["items"].values()
    assert set(early["items"]) == set(item_ids)
    assert response == ("", 204)
    receipt = json.loads(receipt_path.read_bytes())
    assert (receipt["outcome"], receipt["attempts"]) == ("done", 1)


def test_an_attempt_ends_without_the_items_that_overrun_it(
    api: DimmyApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, so that storage can hold an item until the attempt has ended."""
    settings = {"STORAGE_URL": f"file://{tmp_path}", "DIMMY_API_URL": api.url}
    resolver = Resolver(
        read_resolve_settings(settings | {"DIMMY_API_KEY": api.key, "ATTEMPT_SECONDS": "1"})
    )
    quick, slow = (api.put(catalogue.make_item(RNG)) for _ in range(2))
    put_item, has_ended = Store.put_item, threading.Event()

    def put_in_time(store: Store, item: Item, *arguments: Any) -> PutResult:
        if item.item_id == slow:
            has_ended.wait()
        return put_item(store, item, *arguments)

    monkeypatch.setattr(Store, "put_item", put_in_time)
    body = json.dumps(envelope({"item_ids": [quick, slow]}, "msg_overrun")).encode()
    request = Request(EnvironBuilder(method="POST", data=body).get_environ())
    with ThreadPoolExecutor(1) as threads:
        handled = threads.submit(resolver.handle, request)
        try:
            wait_for(handled.done, "the end of the attempt")
        finally:
            has_ended.set()

    assert handled.result()[1] == 503
    items = json.loads((tmp_path / "events" / "msg_overrun.json").read_bytes())["items"]
    assert items == {quick: "stored", slow: "not finished: this attempt's time was over"}


def test_a_redriven_event_keeps_its_id_and_its_receipt(resolve: RunningResolve) -> None:
    late = catalogue.make_item(RNG)
    event, event_id = {"item_ids": [resolve.put_item(), late["_id"]]}, new_message_id()
    status, receipt = resolve.deliver(event, event_id)
    assert (status, receipt["redriven"]) == (503, False)
    resolve.api.put(late)

    source = {"CloudPubSubDeadLetterSourceSubscription": "dimmy-resolve"}
    response = resolve.push(envelope(event, event_id, None, 1, **source))

    receipt = resolve.receipt(event_id)
    assert response.status_code == 204
    assert (receipt["outcome"], receipt["redriven"], receipt["attempts"]) == ("done", True, 2)
    assert resolve.api.requests_for(event["item_ids"][0]) == 1


def test_a_dead_letter_of_an_event_that_is_finished_is_noted_and_acknowledged(
    resolve: RunningResolve,
) -> None:
    """`make redrive` waits for the note. The event was finished by a resend, or given up."""
    event, event_id = {"item_ids": [resolve.put_item()]}, new_message_id()
    status, finished = resolve.deliver(event, event_id)
    assert (status, finished["redriven"]) == (204, False)

    source = {"CloudPubSubDeadLetterSourceSubscription": "dimmy-resolve"}
    response = resolve.push(envelope(event, event_id, None, 1, **source))

    assert response.status_code == 204
    assert resolve.receipt(event_id) == finished | {"redriven": True}
    assert resolve.api.requests_for(event["item_ids"][0]) == 1


def test_a_process_never_exceeds_its_request_concurrency(api: DimmyApi, tmp_path: Path) -> None:
    function = start_resolve(api, tmp_path, DIMMY_CONCURRENCY="3", THREADS="4")
    running_resolve = RunningResolve(function, api, tmp_path)
    api.latency = lambda: 0.02
    api.max_concurrent_requests = 0
    of_all = running_resolve.put_item()
    api.hold_requests(of_all)
    try:
        events = [[of_all, *(running_resolve.put_item() for _ in range(15))] for _ in range(4)]
        with ThreadPoolExecutor(4) as senders:
            delivered = senders.map(lambda ids: running_resolve.deliver({"item_ids": ids}), events)
            wait_for(lambda: api.concurrent_requests == 3, "as many requests as are allowed")
            api.hold_requests(None)
            outcomes = list(delivered)
    finally:
        api.hold_requests(None)
        api.latency = lambda: 0.0
        function.stop()

    assert [status for status, _ in outcomes] == [204] * 4
    assert api.max_concurrent_requests == 3


def test_of_two_contents_of_the_same_time_the_later_fetched_one_stays(
    resolve: RunningResolve,
) -> None:
    item = catalogue.make_item(RNG)
    assert resolve.deliver(item | {"note": "of the payload"})[0] == 204
    resolve.api.put(item | {"note": "of the API"})

    status, receipt = resolve.deliver({"item_ids": [item["_id"]]})

    assert (status, receipt["items"]) == (204, {item["_id"]: "stored"})
    assert resolve.read(f"items/{item['_id']}.json") == resolve.api.body_of(item["_id"])
    assert resolve.deliver(item | {"note": "of the payload"})[0] == 204
    assert resolve.read(f"items/{item['_id']}.json") == resolve.api.body_of(item["_id"])


def test_an_item_whose_time_cannot_be_read_is_reported_and_not_acknowledged(
    resolve: RunningResolve,
) -> None:
    item = catalogue.make_item(RNG)
    resolve.api.put(item)
    resolve.deliver({"item_ids": [item["_id"]]})
    resolve.api.put(item | {"updated_at": "31/12/2026 8 pm"})

    status, receipt = resolve.deliver({"item_ids": [item["_id"]]})

    assert status == 503
    assert receipt["items"] == {
        item["_id"]: 'malformed: its updated_at is not a time: "31/12/2026 8 pm"'
    }


def test_a_body_at_the_limit_of_depth_can_be_resent(resolve: RunningResolve) -> None:
    item = catalogue.make_item(RNG)
    for depth in (90, 101, 400):
        body = json.dumps(item)[:-1].encode() + b',"x":' + b"[" * depth + b"]" * depth + b"}"
        event_id = new_message_id()
        for delivery in (1, 2, 3):
            status, receipt = resolve.deliver(body, event_id, delivery=delivery)
            assert status == 204
        assert receipt["outcome"] == ("done" if depth == 90 else "unrecognised")
        assert receipt["attempts"] == 3


def test_a_transient_fault_is_retried_within_the_attempt(resolve: RunningResolve) -> None:
    item_id = resolve.put_item()
    for fault in (
        Fault(status=502, item_id=item_id, times=1),
        Fault("cut", item_id=item_id, times=1),
        Fault("truncated", item_id=item_id, times=1),
    ):
        resolve.api.fail(fault)

    status, receipt = resolve.deliver({"item_ids": [item_id]})

    assert (status, receipt["items"]) == (204, {item_id: "stored"})
    assert resolve.api.requests_for(item_id) == 4
