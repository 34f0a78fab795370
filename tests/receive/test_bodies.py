"""Bodies of unsigned requests: large, slow, unfinished, and many at a time.

One of them: .venv/bin/pytest tests/receive/test_bodies.py -k stalled
"""

import socket
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from pipeline.receive.body import LARGE_BODIES_BYTES, MAX_BODY_BYTES, SMALL_BODY_BYTES
from sandbox.stack import new_secret
from sandbox.svix_sender import Message, SvixSender, new_message
from support.memory import peak_mebibytes
from support.pubsub import Topic
from support.receiving import (
    NEW_SECRET,
    OLD_SECRET,
    RunningReceive,
    assert_refused,
    settings_of,
    start_receive,
)
from support.unsigned_requests import UnsignedRequests
from support.waiting import wait_for

pytestmark = pytest.mark.xdist_group("receive-bodies")

PEAK_MEBIBYTES = 300  # under any mix of bodies that are not signed, of the 512 of an instance
SECRETS = (OLD_SECRET, NEW_SECRET)
LARGE = SMALL_BODY_BYTES + 1


@pytest.fixture
def unsigned() -> Iterator[UnsignedRequests]:
    with ExitStack() as cleanup:
        yield UnsignedRequests(cleanup)


def post_large(receive: RunningReceive, size: int = LARGE) -> requests.Response:
    return receive.post(new_message(b"x" * size))


def wait_until_no_room(receive: RunningReceive) -> tuple[Message, requests.Response]:
    """Post large bodies until one is refused; return it, and its answer."""

    def refused() -> tuple[Message, requests.Response] | None:
        message = new_message(b"x" * LARGE)
        answer = receive.post(message)
        return (message, answer) if answer.status_code == 503 else None

    return wait_for(refused, "a large body without room")


def test_stalled_large_bodies_do_not_keep_small_ones_out(
    receive: RunningReceive, unsigned: UnsignedRequests
) -> None:
    stalled = unsigned.stall(receive, 8)
    wait_until_no_room(receive)

    for size in (2, 1000, SMALL_BODY_BYTES) * 5:
        assert receive.post(new_message(b"x" * size)).status_code == 204

    for request in stalled:
        request.close()
    wait_for(lambda: post_large(receive).status_code == 204, "the room of those that have ended")


def test_a_large_body_without_room_makes_it_unavailable(
    receive: RunningReceive, unsigned: UnsignedRequests
) -> None:
    unsigned.stall(receive, 4)

    refused, answer = wait_until_no_room(receive)

    assert "Nothing is lost" in assert_refused(answer, 503, "unavailable")
    receive.wait_for_line(refused.message_id, "other large bodies left no room")


def test_a_large_body_waits_for_the_room_of_another(
    receive: RunningReceive, unsigned: UnsignedRequests
) -> None:
    stalled = unsigned.stall(receive, LARGE_BODIES_BYTES // MAX_BODY_BYTES)
    wait_until_no_room(receive)

    waiting = unsigned.threads.submit(post_large, receive, 1_000_000)
    assert receive.post(new_message({})).status_code == 204
    assert not waiting.done()
    stalled[0].close()

    assert waiting.result().status_code == 204


def test_a_body_of_unknown_size_needs_room_once_it_is_large(
    receive: RunningReceive, unsigned: UnsignedRequests
) -> None:
    for _ in range(4):
        unsigned.send(receive, None, b"x" * LARGE)

    wait_until_no_room(receive)


def test_slow_requests_are_answered_those_that_the_headers_refuse_first(
    receive: RunningReceive, unsigned: UnsignedRequests
) -> None:
    """Neither body ever comes to its end."""
    stale = {"svix-timestamp": "1614265330"}
    refused = [
        unsigned.open(receive, 100, **stale),
        unsigned.open(receive, None, **stale),
        unsigned.open(receive, LARGE, **stale),
        unsigned.open(receive, 100, **{"svix-signature": "none"}),
    ]
    slow = [
        unsigned.open(receive, 100),
        unsigned.open(receive, LARGE),
        unsigned.open(receive, None),
    ]
    for request in [*refused, *slow]:
        request.send(b"x")
    slow_answers = [unsigned.threads.submit(request.answer) for request in slow]
    refused_answers = [unsigned.threads.submit(request.answer) for request in refused]

    wait(refused_answers)
    assert not any(answer.done() for answer in slow_answers)

    answers = [answer.result() for answer in refused_answers]
    assert [status for status, _, _ in answers] == [401, 401, 401, 400]
    assert {connection for _, connection, _ in answers} == {"close"}
    answers = [answer.result() for answer in slow_answers]
    assert {(status, connection) for status, connection, _ in answers} == {(408, "close")}
    assert {body["error"] for _, _, body in answers} == {"slow_body"}


def test_what_needs_no_body_is_refused_before_it_has_come(
    receive: RunningReceive, restricted: RunningReceive, unsigned: UnsignedRequests
) -> None:
    for asked, size, status, code in (
        (restricted, 100, 403, "source_not_allowed"),
        (receive, MAX_BODY_BYTES + 1, 413, "body_too_large"),
    ):
        answer = unsigned.open(asked, size).answer()
        assert (answer[0], answer[1], answer[2]["error"]) == (status, "close", code)


def test_a_refused_request_that_has_been_read_keeps_its_connection(
    receive: RunningReceive, unsigned: UnsignedRequests
) -> None:
    request = unsigned.open(receive, 4)
    request.send(b"null")

    assert request.answer()[:2] == (401, "")


@pytest.mark.parametrize("size", [SMALL_BODY_BYTES, SMALL_BODY_BYTES + 4, 5_000_000])
@pytest.mark.parametrize("content", ["x", "\N{GRINNING FACE}", "\xff"])
def test_a_body_of_every_size_is_verified(receive: RunningReceive, size: int, content: str) -> None:
    message = new_message((content * size).encode()[:size])

    assert receive.post(message).status_code == 204
    (published,) = receive.published_of(message)
    assert published.data == message.body

    changed = b"y" + message.body[1:]
    headers = receive.sender.sign(message)
    response = requests.post(receive.url, data=changed, headers=headers, timeout=15)
    assert response.status_code in {400, 401}


def test_a_large_body_may_be_signed_with_either_secret(receive: RunningReceive) -> None:
    message = new_message(b"x" * LARGE)
    for secrets, status in (
        (SECRETS, 204),
        (SECRETS[:1], 204),
        (SECRETS[1:], 204),
        ((new_secret(), *SECRETS[1:]), 204),
        ((new_secret(),), 401),
    ):
        headers = SvixSender(receive.url, *secrets).sign(message)
        response = requests.post(receive.url, data=message.body, headers=headers, timeout=15)
        assert response.status_code == status


def test_unsigned_bodies_cost_little_memory(topic: Topic, tmp_path: Path) -> None:
    with ExitStack() as cleanup:
        function = start_receive(settings_of(topic, tmp_path))
        cleanup.callback(function.stop)
        receive = RunningReceive(function, topic)
        unsigned = UnsignedRequests(cleanup)
        # Text that takes four bytes for each character once it is decoded.
        wide = b"x" * (MAX_BODY_BYTES - 4) + "\N{GRINNING FACE}".encode()
        sizes = (None, MAX_BODY_BYTES, MAX_BODY_BYTES) * 4
        complete = [unsigned.send(receive, size, wide)[1] for size in sizes]
        unsigned.stall(receive, 12)
        for size in (SMALL_BODY_BYTES, LARGE) * 40:
            unsigned.send(receive, size, b"x" * (size - 1))
        wait(complete)
        assert receive.post(new_message({})).status_code == 204
        assert peak_mebibytes(function) < PEAK_MEBIBYTES


def test_bodies_that_cannot_be_published_are_not_kept(topic: Topic, tmp_path: Path) -> None:
    with ExitStack() as cleanup:
        settings = settings_of(topic, tmp_path)
        settings["EVENTS_TOPIC"] += "-missing"
        function = start_receive(settings)
        cleanup.callback(function.stop)
        receive = RunningReceive(function, topic)
        for _ in range(25):
            assert receive.post(new_message(b"x" * 9_000_000)).status_code == 503
        assert peak_mebibytes(function) < PEAK_MEBIBYTES


@pytest.mark.parametrize("excess", [0, 1])
def test_a_chunked_body_has_the_same_size_limit_as_others(
    receive: RunningReceive, excess: int
) -> None:
    body = b"x" * (32 * 1024 * 1024 + excess)
    message = new_message(body)

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    response = requests.post(
        receive.url, data=chunks(), headers=receive.sender.sign(message), timeout=30
    )

    if excess:
        assert_refused(response, 413, "body_too_large")
    else:
        assert response.status_code == 204


def test_an_incomplete_body_is_logged_and_not_published(receive: RunningReceive) -> None:
    receive.published()
    message = new_message({})
    head = "".join(f"{n}: {v}\r\n" for n, v in receive.sender.sign(message).items())
    with socket.create_connection(("127.0.0.1", receive.port)) as connection:
        connection.sendall(
            f"POST / HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 99\r\n\r\n{{".encode()
        )

    receive.wait_for_line(message.message_id, "incomplete_body")
    assert receive.published() == []
