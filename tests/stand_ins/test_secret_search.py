"""The search for secrets in what the tests see: it finds them wherever they stand.

One of them: .venv/bin/pytest tests/stand_ins/test_secret_search.py -k answer
"""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests

from sandbox.secret_search import SecretShownError, refuse_secrets, refuse_secrets_below
from sandbox.stack import SANDBOX_API_KEY, new_secret, start_stack
from support.waiting import wait_for

SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "text",
    [
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        f"a signature {SIGNATURE} in a line",
        "the key is key-of-somebody.",
        "without its prefix: c2VjcmV0LW9mLXNvbWVib2R5",
    ],
)
def test_a_secret_is_found(text: str) -> None:
    known = ["key-of-somebody", "whsec_c2VjcmV0LW9mLXNvbWVib2R5"]

    with pytest.raises(SecretShownError):
        refuse_secrets("a line", ["nothing", text], known)


def test_what_is_said_of_secrets_is_none() -> None:
    refuse_secrets("a line", ["write whsec_..., as in SIGNING_SECRETS", "v1,short"], ["", "short"])


def test_a_secret_is_found_in_files_but_not_in_the_note_for_commands(tmp_path: Path) -> None:
    secret = new_secret()
    (tmp_path / ".running.json").write_text(secret)
    refuse_secrets_below(tmp_path, [secret])
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "msg_1.json").write_text(f'{{"items":{{"a":"401: {secret}"}}}}')

    with pytest.raises(SecretShownError, match="msg_1"):
        refuse_secrets_below(tmp_path, [secret])


def test_a_stack_ends_with_a_search_of_all_that_it_stored(tmp_path: Path) -> None:
    def send_a_key() -> None:
        with start_stack(tmp_path) as stack:
            stack.send({"somebody sends": SANDBOX_API_KEY}, "msg_with_a_key")
            wait_for(lambda: stack.receipt("msg_with_a_key"), "the receipt")

    with pytest.raises(SecretShownError, match="msg_with_a_key"):
        send_a_key()


@pytest.fixture
def mirror() -> Iterator[str]:
    """The URL of a server that answers with the headers that it got."""

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
    ("header", "value"), [("svix-signature", "v2,anything"), ("X-API-KEY", "a-key-of-somebody")]
)
def test_an_answer_that_repeats_what_was_sent_is_found(
    mirror: str, header: str, value: str
) -> None:
    assert requests.get(mirror, timeout=5).status_code == 400

    with pytest.raises(SecretShownError):
        requests.get(mirror, headers={header: value}, timeout=5)
