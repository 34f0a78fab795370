"""`resolve` as Pub/Sub sees it: what is acknowledged, what is not, and what it does to the API.

One of them: .venv/bin/pytest tests/resolve/test_resolver.py -k hostile
"""

import base64
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from pipeline.resolve.resolver import Resolver
from pipeline.resolve.settings import read_resolve_settings
from sandbox import catalogue
from sandbox.background import Background
from sandbox.dimmy_api import DimmyApi, Fault
from sandbox.svix_sender import new_message_id
from support.resolving import Resolving, envelope, start_resolve
from support.waiting import wait_for

VARIETY = random.Random()

pytestmark = pytest.mark.xdist_group("resolve")


@pytest.fixture(scope="module")
def api(background: Background) -> Iterator[DimmyApi]:
    server = DimmyApi("the-key-of-the-tests")
    background.run(server.start())
    yield server
    background.run(server.stop())


@pytest.fixture(scope="module")
def running(api: DimmyApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolving]:
    folder = tmp_path_factory.mktemp("resolve")
    function = start_resolve(api, folder)
    yield Resolving(function, api, folder)
    function.stop()


@pytest.fixture
def resolve(running: Resolving) -> Iterator[Resolving]:
    yield running
    running.api.mend()


def test_an_event_is_acknowledged_once_all_of_it_is_stored(resolve: Resolving) -> None:
    item_ids = [resolve.item() for _ in range(3)]

    status, receipt = resolve.deliver({"item_ids": [*item_ids, item_ids[0]]})

    assert status == 204
    assert receipt["items"] == dict.fromkeys(item_ids, "stored")
    assert receipt["outcome"] == "done"
    assert [resolve.api.requests_for(item_id) for item_id in item_ids] == [1, 1, 1]


def test_an_event_without_items_is_done(resolve: Resolving) -> None:
    status, receipt = resolve.deliver({"item_ids": []})

    assert (status, receipt["outcome"], receipt["items"]) == (204, "done", {})


@pytest.mark.parametrize("attempt", [2, None], ids=["numbered", "not numbered"])
def test_another_attempt_fetches_only_what_is_missing(
    resolve: Resolving, attempt: int | None
) -> None:
    stored, late = resolve.item(), catalogue.make_item(VARIETY)
    event = {"item_ids": [stored, late["_id"]]}
    status, receipt = resolve.deliver(event, event_id := new_message_id())
    assert (status, receipt["outcome"]) == (503, "partial")
    assert receipt["items"] == {stored: "stored", late["_id"]: "404: Item not found"}
    resolve.api.put(late)

    status, receipt = resolve.deliver(event, event_id, attempt)

    assert (status, receipt["outcome"], receipt["attempts"]) == (204, "done", 2)
    assert receipt["items"] == {stored: "stored", late["_id"]: "stored"}
    assert resolve.api.requests_for(stored) == 1


def test_a_lost_acknowledgement_costs_nothing(resolve: Resolving) -> None:
    item_id = resolve.item()
    resolve.deliver({"item_ids": [item_id]}, event_id := new_message_id())

    status, receipt = resolve.deliver({"item_ids": [item_id]}, event_id, attempt=2)

    assert (status, receipt["attempts"]) == (204, 1)
    assert resolve.api.requests_for(item_id) == 1


@pytest.mark.parametrize("attempt", [1, 2, None], ids=["first", "second", "not numbered"])
def test_a_resend_of_a_finished_event_asks_again(resolve: Resolving, attempt: int | None) -> None:
    item_id = resolve.item()
    resolve.deliver({"item_ids": [item_id]}, event_id := new_message_id())

    status, receipt = resolve.deliver({"item_ids": [item_id]}, event_id, attempt, delivery=2)

    assert (status, receipt["items"], receipt["attempts"]) == (204, {item_id: "unchanged"}, 2)
    assert resolve.api.requests_for(item_id) == 2


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


def test_an_event_of_ten_thousand_ids_asks_once_for_each_in_bounded_memory(
    api: DimmyApi, tmp_path: Path
) -> None:
    function = start_resolve(api, tmp_path, LOG_LEVEL="INFO")
    try:
        long = Resolving(function, api, tmp_path)
        item_ids = [long.item() for _ in range(10_000)]
        before = len(api.seen)
        status, receipt = long.deliver({"item_ids": [*item_ids, *item_ids[:500]]})
        megabytes = [worker.memory_info().rss / 1e6 for worker in function.workers]
    finally:
        function.stop()

    assert (status, receipt["outcome"], receipt["attempts"]) == (204, "done", 1)
    assert receipt["items"] == dict.fromkeys(item_ids, "stored")
    asked = [seen.path.removeprefix("/items/") for seen in api.seen[before:]]
    assert sorted(asked) == sorted(item_ids)
    assert max(megabytes) < 150, "the items are not to be held, only their states"


def test_hostile_ids_are_named_and_never_asked_for(resolve: Resolving) -> None:
    good = resolve.item()
    before = len(resolve.api.seen)

    status, receipt = resolve.deliver({"item_ids": [*HOSTILE, good, good]})

    assert status == 503
    assert receipt["items"].pop(good) == "stored"
    assert set(receipt["items"].values()) == {"malformed: not an item id"}
    texts = ["../x", "a/b", "http://169.254.169.254/", "%2e%2e", "", "\ud800"]
    others = ["7 (not a string)", "null (not a string)", '{"a": 1} (not a string)']
    assert set(receipt["items"]) == {*texts, *others, "x" * 80 + "... (10240 characters)"}
    assert [seen.path for seen in resolve.api.seen[before:]] == [f"/items/{good}"]
    assert {path.name for path in (resolve.folder).iterdir()} <= {"items", "events", ".lock"}


def test_a_number_does_not_hide_an_id_of_the_same_digits(resolve: Resolving) -> None:
    digits = "123456789012345678901234"
    resolve.api.put(catalogue.make_item(VARIETY) | {"_id": digits})

    status, receipt = resolve.deliver({"item_ids": [int(digits), digits]})

    assert status == 503
    assert receipt["items"] == {
        digits: "stored",
        f"{digits} (not a string)": "malformed: not an item id",
    }


@pytest.mark.parametrize("item_id", ["../../x", "\ud800", 7, None])
def test_a_full_payload_with_a_hostile_id_is_kept_but_no_item(
    resolve: Resolving, item_id: object
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
        json.dumps(envelope(b"", "msg_1", payload="payloads/msg_2")).encode(),
        json.dumps(envelope(b"", "msg_1", payload="../secret")).encode(),
    ],
)
def test_what_is_no_delivery_is_refused(resolve: Resolving, body: bytes) -> None:
    response = resolve.push(body)

    assert response.status_code == 400
    assert response.json()["error"] == "malformed_envelope"


def test_a_message_published_by_hand_is_an_event_of_its_own(resolve: Resolving) -> None:
    item_id = resolve.item()
    data = base64.b64encode(json.dumps({"item_ids": [item_id]}).encode()).decode()

    response = resolve.push({"message": {"messageId": "10042", "data": data}})

    assert response.status_code == 204
    assert resolve.receipt("10042")["items"] == {item_id: "stored"}


def test_a_payload_that_is_gone_leaves_the_message_to_pubsub(resolve: Resolving) -> None:
    pushed = envelope(b"", "msg_gone", payload="payloads/msg_gone")

    response = resolve.push(pushed)

    assert response.status_code == 503
    assert "payloads/msg_gone" in response.json()["message"]


def test_a_rejected_key_stops_the_attempt_and_is_never_shown(api: DimmyApi, tmp_path: Path) -> None:
    function = start_resolve(
        api, tmp_path, DIMMY_API_KEY="a-revoked-key-of-old", DIMMY_CONCURRENCY="2"
    )
    try:
        refused = Resolving(function, api, tmp_path)
        item_ids = [refused.item() for _ in range(20)]
        before = len(api.seen)
        status, receipt = refused.deliver({"item_ids": item_ids})
    finally:
        function.stop()

    assert status == 503
    assert len(api.seen) - before <= 4
    assert set(receipt["items"]) == set(item_ids)
    assert set(receipt["items"].values()) == {
        "401: Invalid API key",
        "not tried: 401: Invalid API key",
    }
    assert not any("a-revoked-key-of-old" in line for line in function.process.lines)


def test_a_storage_that_refuses_is_no_acknowledgement(api: DimmyApi, tmp_path: Path) -> None:
    (tmp_path / "items").write_text("a file where the folder should be")
    function = start_resolve(api, tmp_path)
    try:
        refused = Resolving(function, api, tmp_path)
        item_id = refused.item()
        status, receipt = refused.deliver({"item_ids": [item_id]})
        (tmp_path / "items").unlink()
        (tmp_path / "events").rename(tmp_path / "moved")
        (tmp_path / "events").write_text("a file where the folder should be")
        unreceipted = refused.push(envelope({"item_ids": [item_id]}, "msg_2"))
    finally:
        function.stop()

    assert status == 503
    assert receipt["items"][item_id].startswith("storage: ")
    assert (unreceipted.status_code, unreceipted.json()["error"]) == (503, "unavailable")


def test_an_attempt_ends_in_time_and_says_so(api: DimmyApi, tmp_path: Path) -> None:
    function = start_resolve(
        api, tmp_path, ATTEMPT_SECONDS="1", DIMMY_CONCURRENCY="1", LOG_FORMAT="text"
    )
    slow = Resolving(function, api, tmp_path)
    item_ids = [slow.item() for _ in range(30)]
    api.latency = lambda: 0.2
    try:
        status, receipt = slow.deliver({"item_ids": item_ids})
        api.latency = lambda: 0.0
        again, finished = slow.deliver({"item_ids": item_ids}, receipt["event_id"], attempt=2)
    finally:
        api.latency = lambda: 0.0
        function.stop()

    assert status == 503
    assert "stored" in receipt["items"].values()
    assert "not tried: this attempt's time was over" in receipt["items"].values()
    assert (again, finished["outcome"]) == (204, "done")
    assert any("WARNING" in line and "event partial" in line for line in function.process.lines)


def test_a_long_attempt_writes_its_receipt_now_and_then(
    api: DimmyApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, so that "now and then" can be often."""
    monkeypatch.setattr("pipeline.resolve.progress.FIRST_WRITE_SECONDS", 0.05)
    settings = {"STORAGE_URL": f"file://{tmp_path}", "DIMMY_API_URL": api.url}
    resolver = Resolver(
        read_resolve_settings(settings | {"DIMMY_API_KEY": api.key, "DIMMY_CONCURRENCY": "1"})
    )
    item_ids = [api.put(catalogue.make_item(VARIETY)) for _ in range(40)]
    api.latency = lambda: 0.02
    body = json.dumps(envelope({"item_ids": item_ids}, "msg_long")).encode()
    written = tmp_path / "events" / "msg_long.json"
    with ThreadPoolExecutor(1) as threads:
        request = Request(EnvironBuilder(method="POST", data=body).get_environ())
        answer = threads.submit(resolver.handle, request)
        wait_for(written.exists, "the first receipt")
        early = json.loads(written.read_bytes())
        answered = answer.result()
    api.latency = lambda: 0.0

    assert early["outcome"] == "partial"
    assert "pending" in early["items"].values()
    assert set(early["items"]) == set(item_ids)
    assert answered == ("", 204)
    receipt = json.loads(written.read_bytes())
    assert (receipt["outcome"], receipt["attempts"]) == ("done", 1)


def test_an_event_from_the_dead_letters_keeps_its_identity_and_its_receipt_remembers(
    resolve: Resolving,
) -> None:
    late = catalogue.make_item(VARIETY)
    event, event_id = {"item_ids": [resolve.item(), late["_id"]]}, new_message_id()
    status, receipt = resolve.deliver(event, event_id)
    assert (status, receipt["redriven"]) == (503, False)
    resolve.api.put(late)

    source = {"CloudPubSubDeadLetterSourceSubscription": "dimmy-resolve"}
    response = resolve.push(envelope(event, event_id, None, 1, **source))

    receipt = resolve.receipt(event_id)
    assert response.status_code == 204
    assert (receipt["outcome"], receipt["redriven"], receipt["attempts"]) == ("done", True, 2)
    assert resolve.api.requests_for(event["item_ids"][0]) == 1


def test_one_process_never_asks_more_at_once_than_it_may(api: DimmyApi, tmp_path: Path) -> None:
    function = start_resolve(api, tmp_path, DIMMY_CONCURRENCY="3", THREADS="4")
    busy = Resolving(function, api, tmp_path)
    api.latency = lambda: 0.02
    api.most_simultaneous = 0
    try:
        events = [[busy.item() for _ in range(15)] for _ in range(4)]
        with ThreadPoolExecutor(4) as senders:
            outcomes = list(senders.map(lambda ids: busy.deliver({"item_ids": ids}), events))
    finally:
        api.latency = lambda: 0.0
        function.stop()

    assert [status for status, _ in outcomes] == [204] * 4
    assert api.most_simultaneous == 3


def test_a_passing_fault_is_overcome_within_the_attempt(resolve: Resolving) -> None:
    item_id = resolve.item()
    for fault in (
        Fault(status=502, item_id=item_id, times=1),
        Fault("cut", item_id=item_id, times=1),
        Fault("truncated", item_id=item_id, times=1),
    ):
        resolve.api.fail(fault)

    status, receipt = resolve.deliver({"item_ids": [item_id]})

    assert (status, receipt["items"]) == (204, {item_id: "stored"})
    assert resolve.api.requests_for(item_id) == 4
