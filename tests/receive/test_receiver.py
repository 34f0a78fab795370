"""`receive` as its callers see it: every status that it answers, each with a helpful reason.

One of them: .venv/bin/pytest tests/receive/test_receiver.py -k chunked
"""

import http.client
import json
import socket
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.stack import new_secret
from sandbox.svix_sender import SvixSender, new_message
from support.receiving import NEW_SECRET, OLD_SECRET, RunningReceive, Start, assert_refused

pytestmark = pytest.mark.xdist_group("receive")


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


def test_a_timestamp_out_of_tolerance_is_refused(receive: RunningReceive) -> None:
    stale = receive.sender.sign(new_message({})) | {"svix-timestamp": "1614265330"}
    head = "".join(f"{name}: {value}\r\n" for name, value in stale.items())
    with socket.create_connection(("127.0.0.1", receive.port), timeout=30) as connection:
        opening = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}"
        connection.sendall(f"{opening}Content-Length: 2\r\n\r\n{{}}".encode())
        response = b"".join(iter(lambda: connection.recv(65536), b""))

    assert b" 401 " in response.splitlines()[0]
    assert b"timestamp_out_of_tolerance" in response


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


def test_an_unforeseen_error_is_answered_with_503_and_logged_with_its_traceback(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """google.auth takes it for granted that a file of credentials holds an object."""
    credentials = tmp_path / "credentials.json"
    credentials.write_text("[]")
    name = "GOOGLE_APPLICATION_CREDENTIALS"
    monkeypatch.setenv(name, str(credentials))  # read at the first event, in this process
    receive = start(tmp_path, PUBSUB_EMULATOR_HOST="", **{name: str(credentials)})
    message = new_message({})

    refusal = receive.post(message)

    assert_refused(refusal, 503, "unavailable")
    assert refusal.headers["Retry-After"]
    receive.wait_for_line('"ERROR"', message.message_id, "Traceback", "internal error: ")
