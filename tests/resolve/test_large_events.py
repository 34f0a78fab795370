"""`resolve` with the largest events: bounded memory, durable progress, admission by size.

One of them: .venv/bin/pytest tests/resolve/test_large_events.py -k durable
"""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp import web

from pipeline.store.settings import StorageSettings
from pipeline.store.store import Store
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from sandbox.dimmy_api import DimmyApi
from sandbox.functions import Function
from support.dimmy_api import running_api
from support.memory import peak_mebibytes
from support.resolving import RunningResolve, envelope, start_resolve
from support.waiting import wait_for

pytestmark = pytest.mark.xdist_group("large")

MEBIBYTE = 1024 * 1024
PEAK_MEBIBYTES = 700  # of the 1024 that a deployed instance has

TIMES = {"created_at": "2026-11-01T08:00:00", "updated_at": "2026-11-01T08:00:00"}


@pytest.fixture
def api(background: Background) -> Iterator[DimmyApi]:
    with running_api(background) as api:
        yield api


def id_of(number: int) -> str:
    return f"{number:024x}"


def put_item(api: DimmyApi, number: int, **members: object) -> str:
    return api.put({"_id": id_of(number)} | TIMES | members)


def body_of(numbers: range) -> bytes:
    return json.dumps({"item_ids": [id_of(n) for n in numbers]}, separators=(",", ":")).encode()


def large_push(event_id: str, item_id: str, size: int) -> bytes:
    """The push request of an event with one item, and with a filling so that it has this size."""
    body = json.dumps({"item_ids": [item_id], "filling": "x" * (size * 3 // 4)}).encode()
    return json.dumps(envelope(body, event_id)).encode()


@pytest.mark.parametrize(
    ("items", "attempt_seconds"),
    [(1_200_000, 1), (200_000, 5)],  # 31 MiB, which take longer to read than this, and 5 MiB
    ids=["the largest event", "a large event"],
)
def test_an_event_of_many_items_makes_durable_progress_in_bounded_memory(
    api: DimmyApi, tmp_path: Path, items: int, attempt_seconds: int
) -> None:
    for number in range(30_000):
        put_item(api, number)
    body = body_of(range(items))
    (tmp_path / "payloads").mkdir()
    (tmp_path / "payloads" / "msg_1").write_bytes(body)
    function = start_resolve(
        api, tmp_path, ATTEMPT_SECONDS=str(attempt_seconds), LOG_LEVEL="WARNING"
    )
    resolve = RunningResolve(function, api, tmp_path)
    settled = []
    try:
        for attempt in (1, 2):
            pushed = envelope(b"", "msg_1", attempt, payload="payloads/msg_1")
            assert resolve.push(pushed).status_code == 503
            receipt = resolve.receipt("msg_1")
            assert (receipt["outcome"], receipt["attempts"]) == ("partial", attempt)
            assert len(receipt["items"]) == items
            settled.append({name for name, state in receipt["items"].items() if state == "stored"})
        assert settled[0] <= settled[1]
        assert 0 < len(settled[0]) < len(settled[1])
        requested = Counter(request.path for request in api.requests)
        assert {requested[f"/items/{item_id}"] for item_id in settled[0]} <= {1}
        assert peak_mebibytes(function) < PEAK_MEBIBYTES
    finally:
        function.stop()


def test_four_events_of_the_largest_message_are_resolved_in_bounded_memory(
    api: DimmyApi, tmp_path: Path
) -> None:
    function = start_resolve(api, tmp_path, ATTEMPT_SECONDS="4", LOG_LEVEL="ERROR", THREADS="8")
    resolve = RunningResolve(function, api, tmp_path)
    requests = []
    for number in range(4):
        body = body_of(range(number * 350_000, (number + 1) * 350_000))
        assert len(body) > 9_000_000
        requests.append(json.dumps(envelope(body, f"msg_{number}")).encode())
    try:
        with ThreadPoolExecutor(4) as senders:
            answers = list(senders.map(resolve.push, requests))
        assert [answer.status_code for answer in answers] == [503] * 4
        started = [n for n, answer in enumerate(answers) if answer.json()["error"] == "partial"]
        assert started
        for number in started:
            assert len(resolve.receipt(f"msg_{number}")["items"]) == 350_000
        assert peak_mebibytes(function) < PEAK_MEBIBYTES
    finally:
        function.stop()


def test_six_items_of_the_largest_response_are_stored_in_bounded_memory(
    api: DimmyApi, tmp_path: Path
) -> None:
    rows = ["one of the many short texts of a large item"] * (31_000_000 // 46)
    item_ids = [put_item(api, number, rows=rows) for number in range(6)]
    assert len(api.body_of(item_ids[0])) > 30_000_000
    function = start_resolve(api, tmp_path, DIMMY_TIMEOUT_SECONDS="20")
    try:
        status, receipt = RunningResolve(function, api, tmp_path).deliver({"item_ids": item_ids})
        assert (status, receipt["items"]) == (204, dict.fromkeys(item_ids, "stored"))
        assert peak_mebibytes(function) < PEAK_MEBIBYTES
    finally:
        function.stop()


@pytest.mark.parametrize("changes", [True, False], ids=["newer items", "the same items"])
def test_six_items_of_the_largest_response_are_compared_in_bounded_memory(
    api: DimmyApi, tmp_path: Path, changes: bool
) -> None:
    """Stored items are decoded, too: points take ten times their size."""
    rows = [{"x": 0.123456, "y": 1.234567, "z": 0.004321}] * (30_000_000 // 42)
    item_ids = [put_item(api, number, rows=rows) for number in range(6)]
    (tmp_path / "items").mkdir()
    for item_id in item_ids:
        (tmp_path / "items" / f"{item_id}.json").write_bytes(api.body_of(item_id))
    if changes:
        for number in range(6):
            put_item(api, number, updated_at="2026-11-01T09:00:00", rows=rows)
    function = start_resolve(api, tmp_path, DIMMY_TIMEOUT_SECONDS="20")
    try:
        status, receipt = RunningResolve(function, api, tmp_path).deliver({"item_ids": item_ids})
        assert (status, len(receipt["items"])) == (204, 6)
        assert set(receipt["items"].values()) == {"stored" if changes else "unchanged"}
        assert peak_mebibytes(function) < PEAK_MEBIBYTES
    finally:
        function.stop()


def test_many_large_items_are_stored_in_bounded_memory(api: DimmyApi, tmp_path: Path) -> None:
    """Only some of them are in memory at once, whatever the concurrency is."""
    rows = ["one of the many short texts of a large item"] * (12_000_000 // 46)
    large_ids = [put_item(api, number, rows=rows) for number in range(32)]
    small_ids = [put_item(api, number) for number in range(32, 64)]
    item_ids = [item_id for pair in zip(large_ids, small_ids, strict=True) for item_id in pair]
    function = start_resolve(api, tmp_path, DIMMY_TIMEOUT_SECONDS="20")
    try:
        status, receipt = RunningResolve(function, api, tmp_path).deliver({"item_ids": item_ids})
        assert (status, receipt["items"]) == (204, dict.fromkeys(item_ids, "stored"))
        assert peak_mebibytes(function) < 400
    finally:
        function.stop()


class StalledRequest:
    """A push request whose sender has announced a body of this size, but sends only its start."""

    def __init__(self, function: Function, size: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", function.port))
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n"
        self._socket.sendall(head.encode() + b"{")

    def end(self) -> None:
        self._socket.close()


@pytest.fixture
def resolve(
    request: pytest.FixtureRequest, api: DimmyApi, tmp_path: Path
) -> Iterator[RunningResolve]:
    """A `resolve` whose attempts have 6 s, or as many as the test asks for."""
    seconds = getattr(request, "param", "6")
    function = start_resolve(api, tmp_path, ATTEMPT_SECONDS=seconds, THREADS="8", LOG_LEVEL="DEBUG")
    yield RunningResolve(function, api, tmp_path)
    function.stop()


def push_until_it_waits(
    resolve: RunningResolve, request: bytes, sender: ThreadPoolExecutor
) -> "Future[requests.Response]":
    """Push a large event, again if it has not met another one; return once it waits."""

    def waiting() -> int:
        return sum('"large event waits"' in line for line in resolve.function.lines)

    def push() -> "Future[requests.Response] | None":
        before = waiting()
        pushed = sender.submit(resolve.push, request)
        wait_for(lambda: pushed.done() or waiting() > before, "an answer, or that it waits")
        return pushed if waiting() > before else None

    return wait_for(push, "an event that waits")


def stall(resolve: RunningResolve, item_id: str, sender: ThreadPoolExecutor) -> StalledRequest:
    """A stalled request that has been admitted: another large event waits for it."""
    stalled = StalledRequest(resolve.function, 20 * MEBIBYTE)
    push_until_it_waits(resolve, large_push("msg_probe", item_id, 20 * MEBIBYTE), sender)
    return stalled


@pytest.mark.parametrize("place", ["message", "storage"])
def test_a_large_event_waits_for_another_one_until_its_deadline_and_small_ones_do_not(
    resolve: RunningResolve, place: str
) -> None:
    item_id = put_item(resolve.api, 1)
    request = large_push("msg_large", item_id, 20 * MEBIBYTE)
    if place == "storage":
        (resolve.folder / "payloads").mkdir()
        (resolve.folder / "payloads" / "msg_large").write_bytes(body_of(range(1, 2)))
        pushed = envelope(b"", "msg_large", payload="payloads/msg_large")
        request = json.dumps(pushed).encode()
    with ThreadPoolExecutor(2) as senders:
        stalled = stall(resolve, item_id, senders)
        waiting = push_until_it_waits(resolve, request, senders)
        assert resolve.deliver({"item_ids": [item_id]})[0] == 204
        assert not waiting.done()
        refused = waiting.result()

    assert refused.status_code == 503
    assert "other large events" in refused.json()["message"]
    assert resolve.receipt("msg_large") == {}

    def unavailable() -> list[dict[str, Any]]:
        lines = [line for line in resolve.function.lines if '"event unavailable"' in line]
        return [json.loads(line) for line in lines]

    wait_for(lambda: len(unavailable()) == 2, "the log lines of the refused attempts")
    assert {line["reason_class"] for line in unavailable()} == {"memory"}
    named = [line["event_id"] for line in unavailable() if "event_id" in line]
    assert named == (["msg_large"] if place == "storage" else [])

    stalled.end()
    assert resolve.push(request).status_code == 204
    assert resolve.receipt("msg_large")["outcome"] == "done"


@pytest.mark.parametrize("resolve", ["120"], indirect=True)
def test_large_events_are_admitted_in_the_order_of_their_arrival(
    resolve: RunningResolve,
) -> None:
    """The last one would fit beside the first one, but must not overtake the second one."""
    item_id = put_item(resolve.api, 1)
    events = {"msg_largest": 31 * MEBIBYTE, "msg_large": 4 * MEBIBYTE}
    with ThreadPoolExecutor(3) as senders:
        stalled = stall(resolve, item_id, senders)
        waiting = [
            push_until_it_waits(resolve, large_push(event_id, item_id, size), senders)
            for event_id, size in events.items()
        ]
        assert not any(push.done() for push in waiting)
        stalled.end()
        assert [push.result().status_code for push in waiting] == [204, 204]

    def done() -> list[str]:
        lines = [line for line in resolve.function.lines if '"event done"' in line]
        return [found for line in lines if (found := json.loads(line)["event_id"]) in events]

    wait_for(lambda: len(done()) == 2, "the log lines of both events")
    assert done() == ["msg_largest", "msg_large"]


def test_a_large_message_that_names_a_stored_body_does_not_wait_for_itself(
    resolve: RunningResolve,
) -> None:
    item_id = put_item(resolve.api, 1)
    (resolve.folder / "payloads").mkdir()
    (resolve.folder / "payloads" / "msg_1").write_bytes(body_of(range(1, 2)))

    response = resolve.push(envelope(b"x" * 4 * MEBIBYTE, "msg_1", payload="payloads/msg_1"))

    assert response.status_code == 204
    assert resolve.receipt("msg_1")["items"] == {item_id: "stored"}


class SlowStorage(CloudStorage):
    """A bucket that takes a second for each write of a receipt."""

    receipt_writes = 0

    async def _put(self, request: web.Request) -> web.Response:
        if "/events/" in request.path:
            self.receipt_writes += 1
            await asyncio.sleep(1)
        return await super()._put(request)


def test_an_attempt_whose_receipt_is_written_slowly_writes_it_rarely_and_ends_in_time(
    api: DimmyApi, background: Background
) -> None:
    bucket = SlowStorage()
    background.run(bucket.start())
    api.latency = lambda: 0.05
    item_ids = [put_item(api, number) for number in range(400)]
    function = start_resolve(
        api,
        Path("/"),
        STORAGE_URL="gs://scans",
        STORAGE_EMULATOR_HOST=bucket.url,
        DIMMY_CONCURRENCY="1",
        ATTEMPT_SECONDS="4",
    )
    resolve = RunningResolve(function, api, Path("/"))
    try:
        response = resolve.push(envelope({"item_ids": item_ids}, "msg_1"))
    finally:
        function.stop()
        background.run(bucket.stop())

    assert response.status_code == 503
    # In the last second, which the last write takes, 20 more would have been requested.
    assert len(api.requests) <= 50
    assert bucket.receipt_writes == 2
    receipt = json.loads(bucket.objects["scans/events/msg_1.json"].content)
    assert {"stored", "not tried: this attempt's time was over"} == set(receipt["items"].values())


def test_an_item_given_up_during_an_attempt_stays_so(api: DimmyApi, tmp_path: Path) -> None:
    held = [put_item(api, number) for number in (1, 2)]
    given_up = id_of(3)
    function = start_resolve(
        api, tmp_path, DIMMY_CONCURRENCY="1", DIMMY_TIMEOUT_SECONDS="30", ATTEMPT_SECONDS="60"
    )
    resolve = RunningResolve(function, api, tmp_path)

    def state_of(item_id: str) -> str:
        return str(resolve.receipt("msg_1").get("items", {}).get(item_id))

    try:
        api.hold_requests(held[0])
        with ThreadPoolExecutor(1) as sender:
            pushed = sender.submit(resolve.push, envelope({"item_ids": [given_up, *held]}, "msg_1"))
            wait_for(lambda: state_of(given_up).startswith("404"), "the first write")
            store = Store(StorageSettings(f"file://{tmp_path}"))
            store.discard_items("msg_1", [given_up], "by a person, 2026-11-01")
            api.hold_requests(held[1])
            wait_for(lambda: state_of(held[0]) == "stored", "the second write")
            api.hold_requests(None)
            response = pushed.result()
    finally:
        api.hold_requests(None)
        function.stop()

    receipt = resolve.receipt("msg_1")
    assert response.status_code == 204
    assert receipt["items"] == dict.fromkeys(held, "stored") | {given_up: "discarded"}
    assert receipt["discarded"] == {given_up: "by a person, 2026-11-01"}
    assert receipt["attempts"] == 1
