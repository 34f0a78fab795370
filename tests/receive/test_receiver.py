"""`receive` as its callers see it: every status that it answers, each with a helpful reason.

One of them: .venv/bin/pytest tests/receive/test_receiver.py -k chunked
"""

import gc
import http.client
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
import requests
import uvicorn
from functions_framework.aio import create_asgi_app
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.background import Background
from sandbox.functions import SOURCE, Function
from sandbox.processes import free_port
from sandbox.pubsub_admin import PulledMessage
from sandbox.stack import new_secret
from sandbox.svix_sender import Message, SvixSender, new_message
from support.pubsub import Topic
from support.waiting import wait_for

OLD_SECRET, NEW_SECRET = new_secret(), new_secret()

pytestmark = pytest.mark.xdist_group("receive")


class RunningReceive:
    """A running `receive`, and what it has published."""

    def __init__(
        self,
        function: "Function | InProcess",
        topic: Topic,
    ) -> None:
        self.url = f"{function.url}webhook"
        self.port = function.port
        self.function = function
        self._topic = topic
        self.sender = SvixSender(self.url, OLD_SECRET, NEW_SECRET)

    def post(self, message: Message, **headers: str) -> requests.Response:
        signed = self.sender.sign(message) | headers
        return requests.post(self.url, data=message.body, headers=signed, timeout=15)

    def wait_for_line(self, *words: str) -> None:
        """Wait until it has logged a line that contains all of these words."""

        def logged() -> bool:
            return any(all(word in line for word in words) for line in self.function.lines)

        wait_for(logged, f"a log line with {words}")

    def published_of(self, message: Message) -> list[PulledMessage]:
        """The Pub/Sub messages published for this event since the last call."""
        return [p for p in self.published() if p.attributes["svix-id"] == message.message_id]

    def published(self) -> list[PulledMessage]:
        """Everything published since the last call; a sentinel event marks the end."""
        sentinel = new_message(b"sentinel")
        assert self.post(sentinel).status_code == 204
        return self._topic.published_until(sentinel.message_id)


class InProcess:
    """The framework's app in this process, on the same server, so that coverage measures it.

    The deployed server stops its workers with a signal that leaves coverage no time to write.
    """

    def __init__(self, settings: dict[str, str], background: Background) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.lines: list[str] = []
        self._background = background
        thresholds = gc.get_threshold()
        with pytest.MonkeyPatch.context() as environment:
            for name, value in settings.items():
                environment.setenv(name, value)
            environment.setenv("FUNCTION_TARGET", "receive")
            environment.setenv("FORWARDED_ALLOW_IPS", "")
            app = create_asgi_app("receive", str(SOURCE))  # type: ignore[no-untyped-call]
        # main.py tunes the garbage collector for a process of its own. Undo that here: frozen
        # objects are never freed, and libraries report them as leaks when the tests end.
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        self._logs = pytest.MonkeyPatch()
        self._logs.setattr(sys.modules["pipeline.logs"], "write_line", self.lines.append)
        self._server = uvicorn.Server(
            uvicorn.Config(app, port=self.port, log_config=None, forwarded_allow_ips="")
        )
        self._serving = background.start(self._server.serve())
        wait_for(lambda: self._server.started, "the server")

    def stop(self) -> None:
        self._server.should_exit = True
        self._serving.result()
        self._logs.undo()


class Start(Protocol):
    def __call__(self, storage: Path, **changes: str) -> RunningReceive: ...


@pytest.fixture(scope="module", params=["process", "in process"])
def start(request: pytest.FixtureRequest, topic: Topic, background: Background) -> Iterator[Start]:
    """Start a `receive`, as deployed or in this process; stop all of them at the end."""
    running: list[Function | InProcess] = []

    def start_one(storage: Path, **changes: str) -> RunningReceive:
        settings = {
            "SIGNING_SECRETS": f"{OLD_SECRET},{NEW_SECRET}",
            "EVENTS_TOPIC": topic.path,
            "STORAGE_URL": f"file://{storage}",
            "PUBSUB_EMULATOR_HOST": topic.host,
        } | changes
        if request.param == "process":
            function = Function("receive", settings)
            function.wait_until_up()
            running.append(function)
            return RunningReceive(function, topic)
        running.append(InProcess(settings, background))
        return RunningReceive(running[-1], topic)

    yield start_one
    for function in running:
        function.stop()


@pytest.fixture(scope="module")
def receive(start: Start, tmp_path_factory: pytest.TempPathFactory) -> RunningReceive:
    return start(tmp_path_factory.mktemp("receive"))


@pytest.fixture(scope="module")
def restricted(start: Start, tmp_path_factory: pytest.TempPathFactory) -> RunningReceive:
    """A `receive` that allows only Svix's US addresses."""
    return start(tmp_path_factory.mktemp("restricted"), ALLOWED_SOURCES="svix-us")


def assert_refused(response: requests.Response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    refusal = response.json()
    assert refusal["error"] == code
    assert OLD_SECRET not in response.text
    assert NEW_SECRET not in response.text
    return str(refusal["message"])


def test_an_authentic_event_is_published_byte_for_byte(receive: RunningReceive) -> None:
    message = new_message(b'{"item_ids": [ "\xc3\xa9" ]}\n')

    response = receive.post(message)

    assert (response.status_code, response.content) == (204, b"")
    (published,) = receive.published_of(message)
    assert published.data == message.body
    assert published.attributes["svix-id"] == message.message_id


def test_webhooks_are_accepted_on_every_path(receive: RunningReceive) -> None:
    message = new_message({})
    url = f"http://127.0.0.1:{receive.port}/a/b?c=d"

    response = requests.post(
        url, data=message.body, headers=receive.sender.sign(message), timeout=9
    )

    assert response.status_code == 204
    assert len(receive.published_of(message)) == 1


@pytest.mark.parametrize("secret", [OLD_SECRET, NEW_SECRET], ids=["old", "new"])
def test_either_secret_of_a_rotation_is_accepted(receive: RunningReceive, secret: str) -> None:
    message = new_message({})
    headers = SvixSender(receive.url, secret, branded=False).sign(message)

    assert requests.post(receive.url, data=message.body, headers=headers, timeout=9).ok


def test_a_missing_header_is_named(receive: RunningReceive) -> None:
    response = requests.post(receive.url, json={"item_ids": []}, timeout=9)

    assert "svix-id" in assert_refused(response, 400, "missing_header")


def test_a_duplicate_header_is_malformed(receive: RunningReceive) -> None:
    message = new_message({})
    connection = http.client.HTTPConnection("127.0.0.1", receive.port, timeout=9)
    connection.putrequest("POST", "/webhook")
    for name, value in receive.sender.sign(message).items():
        connection.putheader(name, value)
    connection.putheader("svix-id", "msg_another")
    connection.putheader("content-length", str(len(message.body)))
    connection.endheaders(message.body)

    response = connection.getresponse()

    assert response.status == 400
    assert json.loads(response.read())["error"] == "malformed_header"
    connection.close()


def test_a_signature_mismatch_names_the_setting_to_check(receive: RunningReceive) -> None:
    message = new_message({"item_ids": []})
    headers = SvixSender(receive.url, new_secret()).sign(message)

    response = requests.post(receive.url, data=message.body, headers=headers, timeout=9)

    assert "SIGNING_SECRETS" in assert_refused(response, 401, "signature_mismatch")


def test_a_body_that_is_not_utf8_is_refused(receive: RunningReceive) -> None:
    headers = receive.sender.sign(new_message(b""))

    response = requests.post(receive.url, data=b"\xff\x00", headers=headers, timeout=9)

    assert_refused(response, 400, "unreadable_body")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_methods_other_than_post_are_refused(receive: RunningReceive, method: str) -> None:
    response = requests.request(method, receive.url, timeout=9)

    assert_refused(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "POST"


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
    head = "".join(f"{n}: {v}\r\n" for n, v in receive.sender.sign(new_message({})).items())
    with socket.create_connection(("127.0.0.1", receive.port)) as connection:
        connection.sendall(
            f"POST / HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 99\r\n\r\n{{".encode()
        )

    receive.wait_for_line("incomplete_body")
    assert receive.published() == []


def test_a_timestamp_out_of_tolerance_is_refused(receive: RunningReceive) -> None:
    stale = receive.sender.sign(new_message({})) | {"svix-timestamp": "1614265330"}
    head = "".join(f"{name}: {value}\r\n" for name, value in stale.items())
    with socket.create_connection(("127.0.0.1", receive.port), timeout=30) as connection:
        opening = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}"
        connection.sendall(f"{opening}Content-Length: 2\r\n\r\n{{}}".encode())
        response = b"".join(iter(lambda: connection.recv(65536), b""))

    assert b" 401 " in response.splitlines()[0]
    assert b"timestamp_out_of_tolerance" in response


def test_unverified_bodies_share_a_memory_limit(receive: RunningReceive) -> None:
    """Five unfinished bodies of 30 MiB exceed the 128 MiB for all bodies together."""
    size = 30 * 1024 * 1024
    connections: list[socket.socket] = []
    refused = 0
    for _ in range(5):
        message = new_message(b"x")
        signed = receive.sender.sign(message)
        head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        connection = socket.create_connection(("127.0.0.1", receive.port), timeout=30)
        connections.append(connection)
        opening = f"POST / HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {size}\r\n\r\n"
        connection.sendall(opening.encode() + b"x" * (size - 1))
    for connection in connections:
        connection.sendall(b"x")
        response = connection.recv(65536)
        refused += b" 503 " in response.splitlines()[0]
        connection.close()

    assert refused >= 1
    assert receive.post(new_message({})).status_code == 204


@pytest.mark.parametrize(
    ("forwarded_for", "status"),
    [
        ("52.24.126.164", 204),
        ("203.0.113.7, 52.24.126.164", 204),
        ("2600:1f24:64:8000::1", 204),
        ("52.24.126.164, 203.0.113.7", 403),
        ("", 403),
        ("rubbish", 403),
    ],
)
def test_only_allowed_sources_are_accepted(
    restricted: RunningReceive, forwarded_for: str, status: int
) -> None:
    response = restricted.post(new_message({}), **{"X-Forwarded-For": forwarded_for})

    if status == 204:
        assert response.status_code == 204
    else:
        assert "ALLOWED_SOURCES" in assert_refused(response, 403, "source_not_allowed")


def test_without_trusted_proxies_x_forwarded_for_is_ignored(start: Start, tmp_path: Path) -> None:
    direct = start(tmp_path, ALLOWED_SOURCES="svix-us", TRUSTED_PROXY_HOPS="0")

    response = direct.post(new_message({}), **{"X-Forwarded-For": "52.24.126.164"})

    assert "127.0.0.1" in assert_refused(response, 403, "source_not_allowed")


def test_it_logs_when_execution_ids_are_enabled(start: Start, tmp_path: Path) -> None:
    running_receive = start(tmp_path, LOG_EXECUTION_ID="true")

    assert running_receive.post(new_message({})).status_code == 204

    running_receive.wait_for_line("webhook published")


def test_a_missing_topic_makes_it_unavailable(start: Start, tmp_path: Path) -> None:
    running_receive = start(
        tmp_path, EVENTS_TOPIC="projects/sandbox/topics/missing", LOG_FORMAT="text"
    )

    response = running_receive.post(new_message({}))

    assert_refused(response, 503, "unavailable")
    assert int(response.headers["Retry-After"]) > 0
    running_receive.wait_for_line("ERROR", "NOT_FOUND")


def test_a_large_body_that_cannot_be_stored_makes_it_unavailable(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "payloads").write_text("a file where the folder should be")

    running_receive = start(tmp_path)
    response = running_receive.post(new_message(b"x" * 10_000_000))

    assert_refused(response, 503, "unavailable")
    running_receive.wait_for_line("storage: payloads/")


def test_a_large_body_is_stored_and_the_message_names_its_object(
    start: Start, tmp_path: Path
) -> None:
    message = new_message(b"x" * 10_000_000)
    running_receive = start(tmp_path)

    assert running_receive.post(message).status_code == 204

    (published,) = running_receive.published_of(message)
    assert published.data == b""
    assert published.attributes["payload"] == f"payloads/{message.message_id}"
    assert (tmp_path / published.attributes["payload"]).read_bytes() == message.body


_NAMES = [f"{p}-{n}" for p in ("svix", "webhook") for n in ("id", "timestamp", "signature")]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from([*_NAMES, "content-type", "x-forwarded-for", "expect"]),
            st.binary(max_size=60) | st.sampled_from([b"1764000000", b"v1," + b"A" * 43 + b"="]),
        ),
        max_size=8,
    ),
    body=st.binary(max_size=300),
    method=st.sampled_from([b"POST", b"POST", b"POST", b"GET", b"BREW"]),
)
def test_hostile_requests_are_answered_with_client_errors(
    receive: RunningReceive, headers: list[tuple[str, bytes]], body: bytes, method: bytes
) -> None:
    lines = [name.encode() + b": " + value for name, value in headers]
    lines = [line.replace(b"\r", b"").replace(b"\n", b"") for line in lines]
    request = b"\r\n".join(
        [
            method + b" /webhook HTTP/1.1",
            b"host: x",
            b"connection: close",
            *lines,
            b"content-length: %d" % len(body),
            b"",
            body,
        ]
    )
    with socket.create_connection(("127.0.0.1", receive.port), timeout=15) as connection:
        connection.sendall(request)
        response = b""
        while chunk := connection.recv(65536):
            response += chunk

    statuses = [int(line.split()[1]) for line in response.splitlines() if line[:7] == b"HTTP/1."]
    assert statuses
    assert all(status == 100 or 400 <= status < 500 for status in statuses), response


def test_hostile_requests_publish_nothing(receive: RunningReceive) -> None:
    receive.published()
    test_hostile_requests_are_answered_with_client_errors(receive)

    assert receive.published() == []
