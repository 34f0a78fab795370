"""Odd but legal HTTP: requests that offer an upgrade, in every framing, and trailers.

One of them: .venv/bin/pytest tests/receive/test_http.py -k chunked
"""

import http.client
import socket
from collections.abc import Iterator

import pytest

from sandbox.svix_sender import Message, new_message
from support.receiving import RunningReceive

pytestmark = pytest.mark.xdist_group("receive-http")

UPGRADES = {
    "h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "websocket": "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "unknown": "Upgrade: odd/1, h2c\r\nConnection: upgrade\r\n",
}


def head_of(receive: RunningReceive, message: Message, *lines: str) -> bytes:
    signed = "".join(f"{name}: {value}\r\n" for name, value in receive.sender.sign(message).items())
    return f"POST /webhook HTTP/1.1\r\nHost: x\r\n{signed}{''.join(lines)}\r\n".encode()


def length_of(message: Message) -> str:
    return f"Content-Length: {len(message.body)}\r\n"


class Connection:
    """A connection whose answers are read one after the other, even if two arrive together."""

    def __init__(self, connection: socket.socket) -> None:
        self.sendall = connection.sendall
        self._answers = connection.makefile("rb")

    def read_status(self) -> int:
        """The status of the next answer, which is read to its end."""
        status = int(self._answers.readline().split()[1])
        headers = http.client.parse_headers(self._answers)
        self._answers.read(int(headers.get("Content-Length", "0")))
        return status


@pytest.fixture
def connection(receive: RunningReceive) -> Iterator[Connection]:
    with socket.create_connection(("127.0.0.1", receive.port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Connection(connection)


def assert_published(receive: RunningReceive, connection: Connection, message: Message) -> None:
    """Check that the request on this connection is accepted, and its event published once."""
    assert connection.read_status() == 204
    (published,) = receive.published_of(message)
    assert published.data == message.body


def wait_until_received(receive: RunningReceive) -> None:
    """Return when the server has read what was sent before: it has then served another request."""
    assert receive.post(new_message({})).status_code == 204


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
def test_an_offered_upgrade_is_ignored(
    receive: RunningReceive, connection: Connection, upgrade: str
) -> None:
    message = new_message({"item_ids": ["a"]})

    connection.sendall(head_of(receive, message, upgrade, length_of(message)) + message.body)

    assert_published(receive, connection, message)


def test_a_body_that_follows_an_offered_upgrade_later_is_read(
    receive: RunningReceive, connection: Connection
) -> None:
    message = new_message({"item_ids": ["a"]})
    head = head_of(receive, message, UPGRADES["h2c"], length_of(message))

    for part in (head[:100], head[100:-1], head[-1:], message.body[:5], message.body[5:]):
        connection.sendall(part)
        wait_until_received(receive)

    assert_published(receive, connection, message)


def test_a_chunked_body_after_an_offered_upgrade_is_read(
    receive: RunningReceive, connection: Connection
) -> None:
    message = new_message({"item_ids": ["a"]})
    head = head_of(receive, message, UPGRADES["h2c"], "Transfer-Encoding: chunked\r\n")
    chunks = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in message.body)

    connection.sendall(head + chunks)
    wait_until_received(receive)
    connection.sendall(b"0\r\n\r\n")

    assert_published(receive, connection, message)


@pytest.mark.parametrize("upgrade", ["", UPGRADES["h2c"]], ids=["plain", "upgrade"])
def test_trailers_are_no_headers(
    receive: RunningReceive, connection: Connection, upgrade: str
) -> None:
    message = new_message({"chunked": upgrade})
    chunk = b"%x\r\n%s\r\n" % (len(message.body), message.body)
    trailers = b"svix-id: msg_another\r\nX-Forwarded-For: 203.0.113.7\r\n"
    head = head_of(receive, message, "Transfer-Encoding: chunked\r\n", upgrade)

    connection.sendall(head + chunk + b"0\r\n" + trailers + b"\r\n")

    assert_published(receive, connection, message)


def test_an_expected_100_comes_before_a_body_that_follows_an_offered_upgrade(
    receive: RunningReceive, connection: Connection
) -> None:
    message = new_message({"item_ids": ["a"]})
    expect = "Expect: 100-continue\r\n"

    connection.sendall(head_of(receive, message, UPGRADES["h2c"], length_of(message), expect))
    assert connection.read_status() == 100
    connection.sendall(message.body)

    assert_published(receive, connection, message)


def test_requests_after_an_offered_upgrade_use_the_same_connection(
    receive: RunningReceive, connection: Connection
) -> None:
    messages = [new_message({"item_ids": [str(number)]}) for number in range(3)]
    requests = [
        head_of(receive, message, length_of(message), upgrade) + message.body
        for message, upgrade in zip(messages, [UPGRADES["h2c"], "", UPGRADES["h2c"]], strict=True)
    ]

    connection.sendall(requests[0] + requests[1])
    assert [connection.read_status(), connection.read_status()] == [204, 204]
    connection.sendall(requests[2])
    assert connection.read_status() == 204

    published = {each.attributes["svix-id"] for each in receive.published()}
    assert published == {message.message_id for message in messages}


def test_an_offered_upgrade_without_a_body_is_ignored(connection: Connection) -> None:
    connection.sendall(f"GET / HTTP/1.1\r\nHost: x\r\n{UPGRADES['h2c']}\r\n".encode())

    assert connection.read_status() == 405


def test_any_number_of_offered_upgrades_may_arrive_together(connection: Connection) -> None:
    count = 3000
    request = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"

    connection.sendall(request * count)

    assert {connection.read_status() for _ in range(count)} == {405}


@pytest.mark.parametrize("target", [b"x:443", b"/", b"http://x/"])
def test_connect_is_refused_and_the_server_goes_on(
    receive: RunningReceive, connection: Connection, target: bytes
) -> None:
    connection.sendall(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")

    assert 400 <= connection.read_status() < 500
    assert receive.post(new_message({})).status_code == 204
