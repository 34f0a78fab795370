"""The sandbox's sender behaves as Svix does, or the other tests would prove little.

One of them: .venv/bin/pytest tests/stand_ins/test_svix_sender.py -k ladder
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
    LADDER_SECONDS,
    Attempt,
    Message,
    SvixSender,
    delay_after,
    new_message,
    new_message_id,
)

SECRET = new_secret()


class Endpoint:
    """Keeps what it is sent; answers with the given responses, the last one for ever."""

    def __init__(self, *responses: Callable[[], web.Response]) -> None:
        self.responses = list(responses)
        self.requests: list[tuple[CIMultiDictProxy[str], bytes]] = []
        self.cut_next = 0
        self.url = ""

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        return runner

    async def _take(self, request: web.Request) -> web.Response:
        self.requests.append((request.headers, await request.read()))
        if self.cut_next:
            self.cut_next -= 1
            assert request.transport
            request.transport.abort()
        return self.responses[0]() if len(self.responses) == 1 else self.responses.pop(0)()


@pytest.fixture
def endpoint(background: Background) -> Iterator[Endpoint]:
    server = Endpoint(lambda: web.Response(status=204))
    runner = background.run(server.start())
    yield server
    background.run(runner.cleanup())


def deliver(
    background: Background, endpoint_url: str, message: Message, speed: float = 1e6
) -> Message:
    async def climb() -> Message:
        async with SvixSender(endpoint_url, SECRET, speed=speed) as sender:
            return await sender.deliver(message)

    return background.run(climb())


def test_a_delivery_looks_like_svixs(background: Background, endpoint: Endpoint) -> None:
    message = deliver(background, endpoint.url, new_message({"item_ids": []}))

    ((headers, body),) = endpoint.requests
    assert message.delivered
    assert body == message.body
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("Svix-Webhooks/")
    assert headers["svix-id"] == message.message_id
    Webhook(SECRET).verify(body, dict(headers))


def test_it_climbs_the_whole_ladder_with_a_fresh_signature_each_time_and_then_gives_up(
    background: Background, endpoint: Endpoint
) -> None:
    endpoint.responses = [lambda: web.Response(status=500, text="reason " + "x" * 30_000)]

    message = deliver(background, endpoint.url, new_message({}), speed=100_000)

    assert not message.delivered
    assert len(endpoint.requests) == len(LADDER_SECONDS) == 8
    assert {headers["svix-id"] for headers, _ in endpoint.requests} == {message.message_id}
    for headers, body in endpoint.requests:
        Webhook(SECRET).verify(body, dict(headers))
    assert len(message.attempts[0].response) == 20_000


def test_it_stops_climbing_at_the_first_success(background: Background, endpoint: Endpoint) -> None:
    endpoint.responses = [
        lambda: web.Response(status=503),
        lambda: web.Response(status=302, headers={"Location": endpoint.url}),
        lambda: web.Response(status=200),
    ]

    message = deliver(background, endpoint.url, new_message({}))

    assert [attempt.status for attempt in message.attempts] == [503, 302, 200]


def test_a_connection_that_breaks_at_once_is_tried_again_at_once_as_it_was(
    background: Background, endpoint: Endpoint
) -> None:
    endpoint.cut_next = 1

    message = deliver(background, endpoint.url, new_message({}), speed=1)

    first, second = (dict(headers) for headers, _ in endpoint.requests)
    assert message.delivered
    assert first["svix-signature"] == second["svix-signature"]


def test_an_endpoint_that_is_not_there_is_a_failed_attempt(background: Background) -> None:
    message = new_message({})

    async def once() -> Attempt:
        async with SvixSender(f"http://127.0.0.1:{free_port()}/", SECRET) as sender:
            return await sender.attempt(message)

    attempt = background.run(once())
    assert (attempt.status, attempt.delivered) == (None, False)
    assert attempt.error


@pytest.mark.parametrize(
    ("ladder", "retry_after", "error", "expected"),
    [
        (5, None, "", 5),
        (300, "400", "", 400),
        (300, "9000", "", 600),
        (300, "1", "", 300),
        (300, "soon", "", 300),
        (5, None, "timeout", 60),
    ],
)
def test_retry_after_stretches_a_delay_to_at_most_twice_its_length(
    ladder: float, retry_after: str | None, error: str, expected: float
) -> None:
    headers = CIMultiDict({"Retry-After": retry_after} if retry_after else {})
    last = Attempt(1, None if error else 503, 0.1, "", error, headers)

    assert delay_after(last, ladder) == expected


def test_message_ids_sort_by_time_and_are_told_apart() -> None:
    ids = [new_message_id() for _ in range(100)]

    assert len(set(ids)) == 100
    assert all(len(i) == 31 and i.startswith("msg_") for i in ids)
