"""In a company's network: the API is reached through the proxy, this machine never is.

One of them: .venv/bin/pytest tests/stand_ins/test_proxies.py -k demo
"""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from operate.google.deployment import ROOT
from sandbox.functions import Function
from sandbox.processes import Process
from sandbox.proxies import describe_proxy, without_loopback
from support.resolving import RunningResolve
from support.waiting import WAIT_SECONDS


class RefusingProxy:
    """A proxy that refuses everything, and keeps the first line of each request."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://user:password@127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client:
                self.requests.append(client.recv(65536).split(b"\r\n")[0].decode())
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def proxy() -> Iterator[RefusingProxy]:
    running = RefusingProxy()
    yield running
    running.stop()


def test_no_variable_is_set_without_a_proxy() -> None:
    assert without_loopback({"PATH": "/bin", "HTTP_PROXY": ""}) == {}


def test_this_machine_is_added_to_the_exceptions() -> None:
    found = without_loopback(
        {"https_proxy": "http://proxy:3128", "NO_PROXY": "intranet, localhost"}
    )

    assert found == {
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "intranet,localhost,127.0.0.1,::1",
        "no_proxy": "intranet,localhost,127.0.0.1,::1",
    }


def test_a_proxy_is_described_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:password@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    assert describe_proxy("https://dimmy.api.optioryx.com") == "proxy.example:3128"
    assert describe_proxy("http://127.0.0.1:9000") == ""


def test_resolve_reaches_the_api_through_the_proxy(
    proxy: RefusingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    settings = {
        "STORAGE_URL": f"file://{tmp_path}",
        "DIMMY_API_URL": "https://dimmy.example",
        "DIMMY_API_KEY": "a-test-api-key",
        "DIMMY_TIMEOUT_SECONDS": "2",
        "ATTEMPT_SECONDS": "2",
    }
    function = Function("resolve", settings)
    function.wait_until_up()
    try:
        status, _ = RunningResolve(function, None, tmp_path).deliver({"item_ids": ["a"]})  # type: ignore[arg-type]
    finally:
        function.stop()

    assert status == 503
    assert proxy.requests[0].startswith("CONNECT dimmy.example:443")


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_the_demo_runs_behind_a_proxy(proxy: RefusingProxy, name: str) -> None:
    environment = {
        name: proxy.url,
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "PYTHONPATH": os.pathsep.join(str(ROOT / each) for each in ("function", "infra", "tests")),
    }
    demo = Process([sys.executable, "-m", "sandbox.demo"], environment, folder=ROOT)
    try:
        status = demo.wait(WAIT_SECONDS)
    finally:
        demo.stop()

    assert status == 0, "\n".join(demo.lines[-20:])
    assert proxy.requests == []
