"""The sandbox's sender behaves like Svix, which the other tests rely on.

One of them: .venv/bin/pytest tests/stand_ins/test_svix_sender.py -k schedule
"""

from collections.abc import Callable, Iterator

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from svix.webhooks import Webhook

from sandbox.background import Background
from sandbox.processes import free_port
from sandbox.stack import new_secret
from sandbox.svix_sender import (
    RETRY_SCHEDULE_SECONDS,
    Attempt,
    Message,
    SvixSender,
    delay_after,
    new_message,
    new_message_id,
)
from sandbox.web_server import WebServer

SECRET = new_secret()


class Endpoint:
    """Records requests and returns `responses` in order, then repeats the last one."""

    def __init__(self, *responses: Callable[[], web.Response]) -> None:
        self.responses = list(responses)
        self.requests: list[tuple[CIMultiDictProxy[str], bytes]] = []
        self.cut_next = 0
        self.url = ""

    async def start(self) -> WebServer:
        app = web.Application()
        app.router.add_post("/", self._receive)
        running = await WebServer.start(app)
        self.url = f"{running.url}/"
        return running

    async def _receive(self, request: web.Request) -> web.Response:
        self.requests.append((request.headers, await request.read()))
        if self.cut_next:
            self.cut_next -= 1
            assert request.transport
            request.transport.abort()
        return self.responses[0]() if len(self.responses) == 1 else self.responses.pop(0)()


@pytest.fixture
def endpoint(background: Background) -> Iterator[Endpoint]:
    server = Endpoint(lambda: web.Response(status=204))
    running = background.run(server.start())
    yield server
    background.run(running.stop())


def deliver(
    background: Background, endpoint_url: str, message: Message, speed: float = 1e6
) -> Message:
    async def send() -> Message:
        async with SvixSender(endpoint_url, SECRET, speed=speed) as sender:
            return await sender.deliver(message)

    return background.run(send())


def test_a_request_has_the_headers_and_signature_of_svix(
    background: Background, endpoint: Endpoint
) -> None:
    message = deliver(background, endpoint.url, new_message({"item_ids": []}))

    ((headers, body),) = endpoint.requests
    assert message.delivered
    assert body == message.body
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("Svix-Webhooks/")
    assert headers["svix-id"] == message.message_id
    Webhook(SECRET).verify(body, dict(headers))


def test_a_failing_message_is_retried_for_the_complete_schedule_with_a_valid_signature(
    background: Background, endpoint: Endpoint
) -> None:
    endpoint.responses = [lambda: web.Response(status=500, text="reason " + "x" * 30_000)]

    message = deliver(background, endpoint.url, new_message({}), speed=100_000)

    assert not message.delivered
    assert len(endpoint.requests) == len(RETRY_SCHEDULE_SECONDS) == 8
    assert {headers["svix-id"] for headers, _ in endpoint.requests} == {message.message_id}
    for headers, body in endpoint.requests:
        Webhook(SECRET).verify(body, dict(headers))
    assert len(message.attempts[0].response) == 20_000


def test_retries_stop_after_the_first_success(background: Background, endpoint: Endpoint) -> None:
    endpoint.responses = [
        lambda: web.Response(status=503),
        lambda: web.Response(status=302, headers={"Location": endpoint.url}),
        lambda: web.Response(status=200),
    ]

    message = deliver(background, endpoint.url, new_message({}))

    assert [attempt.status for attempt in message.attempts] == [503, 302, 200]


def test_after_an_immediate_connection_error_the_same_request_is_sent_again(
    background: Background, endpoint: Endpoint
) -> None:
    endpoint.cut_next = 1

    message = deliver(background, endpoint.url, new_message({}), speed=1)

    first, second = (dict(headers) for headers, _ in endpoint.requests)
    assert message.delivered
    assert first["svix-signature"] == second["svix-signature"]


def test_an_unreachable_endpoint_is_a_failed_attempt(background: Background) -> None:
    message = new_message({})

    async def attempt_once() -> Attempt:
        async with SvixSender(f"http://127.0.0.1:{free_port()}/", SECRET) as sender:
            return await sender.attempt(message)

    attempt = background.run(attempt_once())
    assert (attempt.status, attempt.delivered) == (None, False)
    assert attempt.error


@pytest.mark.parametrize(
    ("scheduled", "retry_after", "error", "expected"),
    [
        (5, None, "", 5),
        (300, "400", "", 400),
        (300, "9000", "", 600),
        (300, "1", "", 300),
        (300, "soon", "", 300),
        (5, None, "timeout", 60),
    ],
)
def test_retry_after_extends_a_delay_to_at_most_twice_its_length(
    scheduled: float, retry_after: str | None, error: str, expected: float
) -> None:
    headers = CIMultiDict({"Retry-After": retry_after} if retry_after else {})
    last = Attempt(1, None if error else 503, 0.1, "", error, headers)

    assert delay_after(last, scheduled) == expected


def test_message_ids_are_unique_and_have_the_format_of_svix() -> None:
    ids = [new_message_id() for _ in range(100)]

    assert len(set(ids)) == 100
    assert all(len(i) == 31 and i.startswith("msg_") for i in ids)
