"""The search for secrets in logs, files and responses finds them.

One of them: .venv/bin/pytest tests/stand_ins/test_secret_search.py -k response
"""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests

from sandbox.secret_search import SecretLeakError, assert_no_secrets, assert_no_secrets_below
from sandbox.stack import SANDBOX_API_KEY, new_secret, start_stack
from support.waiting import wait_for

SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "text",
    [
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        f"a signature {SIGNATURE} in a line",
        "the key is an-example-key.",
        "without its prefix: c2VjcmV0LW9mLXNvbWVib2R5",
    ],
)
def test_a_secret_is_found(text: str) -> None:
    known = ["an-example-key", "whsec_c2VjcmV0LW9mLXNvbWVib2R5"]

    with pytest.raises(SecretLeakError):
        assert_no_secrets("a line", ["nothing", text], known)


def test_text_about_secrets_is_not_a_secret() -> None:
    assert_no_secrets(
        "a line", ["write whsec_..., as in SIGNING_SECRETS", "v1,short"], ["", "short"]
    )


def test_a_secret_is_found_in_files_except_hidden_ones(tmp_path: Path) -> None:
    secret = new_secret()
    (tmp_path / ".running.json").write_text(secret)
    assert_no_secrets_below(tmp_path, [secret])
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "msg_1.json").write_text(f'{{"items":{{"a":"401: {secret}"}}}}')

    with pytest.raises(SecretLeakError, match="msg_1"):
        assert_no_secrets_below(tmp_path, [secret])


def test_stopping_a_stack_searches_all_stored_files(tmp_path: Path) -> None:
    def send_a_key() -> None:
        with start_stack(tmp_path) as stack:
            stack.send({"content": SANDBOX_API_KEY}, "msg_with_a_key")
            wait_for(lambda: stack.receipt("msg_with_a_key"), "the receipt")

    with pytest.raises(SecretLeakError, match="msg_with_a_key"):
        send_a_key()


@pytest.fixture
def echo_url() -> Iterator[str]:
    """The URL of a server whose responses contain the request headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(400)
            self.end_headers()
            self.wfile.write(str(self.headers).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("header", "value"), [("svix-signature", "v2,anything"), ("X-API-KEY", "an-example-key")]
)
def test_a_response_that_repeats_a_secret_of_the_request_is_found(
    echo_url: str, header: str, value: str
) -> None:
    assert requests.get(echo_url, timeout=5).status_code == 400

    with pytest.raises(SecretLeakError):
        requests.get(echo_url, headers={header: value}, timeout=5)
