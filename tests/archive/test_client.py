"""How photos are fetched: TLS, the address that is connected to, proxies.

One of them: .venv/bin/pytest tests/archive/test_client.py -k rebinding
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from pipeline.archive.addresses import look_up, read_address
from pipeline.archive.client import PhotoClient, PhotoError
from pipeline.archive.settings import read_archive_settings
from pipeline.deadline import Deadline
from sandbox.background import Background
from sandbox.web_server import WebServer
from support.archiving import RNG

HOST = "photos.example.com"
CONTENT = RNG.randbytes(200_000)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def serve(background: Background, authority: trustme.CA) -> Iterator[Callable[[str], int]]:
    """Starts HTTPS servers of photos on loopback, each with a certificate for a name."""
    running: list[WebServer] = []

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=CONTENT, content_type="image/jpeg")

    async def start(name: str) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        running.append(await WebServer.start(app, certificate=context))
        return running[-1].port

    yield lambda name: background.run(start(name))
    for server in running:
        background.run(server.stop())


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def fetch(bundle: str, look_up: Callable[[str, int], Sequence[str]] = look_up) -> bytes:
    """A photo of HOST, with this in place of the resolver."""
    variables = {"STORAGE_URL": "file:///srv/dimmy", "PHOTO_HOSTS": HOST}
    settings = read_archive_settings(variables | {"REQUESTS_CA_BUNDLE": bundle})
    client = PhotoClient(settings.photo_origins, 1, look_up)
    address = read_address(f"https://{HOST}/a", settings.photo_origins)
    with client.open(address, Deadline(30)) as response:
        return b"".join(response.chunks)


@contextlib.contextmanager
def port_443_is(port: int) -> Iterator[list[tuple[str, int]]]:
    """Connect to this port of loopback in place of port 443; yields what was connected to."""
    connected: list[tuple[str, int]] = []
    connect = socket.socket.connect

    def redirected(self: socket.socket, address: tuple[str, int]) -> None:
        connected.append(address[:2])
        connect(self, (address[0], port) if address[1] == 443 else address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", redirected)
        yield connected


def test_tls_verifies_the_name_of_the_host_and_not_that_of_its_address(
    serve: Callable[[str], int], bundle: str
) -> None:
    with port_443_is(serve(HOST)):
        assert fetch(bundle, lambda *_: ["127.0.0.1"]) == CONTENT
    for other in ("evil.example.com", "127.0.0.1"):
        with (
            port_443_is(serve(other)),
            pytest.raises(PhotoError, match="connection failed: SSLError"),
        ):
            fetch(bundle, lambda *_: ["127.0.0.1"])


def test_an_unknown_certificate_authority_is_not_accepted(
    serve: Callable[[str], int], tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))

    with port_443_is(serve(HOST)), pytest.raises(PhotoError, match="SSLError"):
        fetch(str(other), lambda *_: ["127.0.0.1"])


def test_a_private_address_is_not_connected_to(
    serve: Callable[[str], int], bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    with (
        port_443_is(serve(HOST)) as connected,
        pytest.raises(PhotoError, match=f"{HOST} has no public address"),
    ):
        fetch(bundle)

    assert connected == []


def test_dns_rebinding_has_no_effect_because_the_checked_address_is_connected_to(
    serve: Callable[[str], int], bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver returns a public address once and a private one from then on."""
    names: list[str] = []
    resolve = socket.getaddrinfo

    def rebinding(host: str, port: int, *arguments: int, **options: int) -> object:
        if host != HOST:
            return resolve(host, port, *arguments, **options)
        names.append(host)
        address = "127.0.0.2" if len(names) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    # In place of a public address, which would leave this machine.
    monkeypatch.setattr("pipeline.archive.addresses.is_public", lambda address: address[-1] == "2")

    with port_443_is(serve(HOST)) as connected, contextlib.suppress(PhotoError):
        fetch(bundle)

    assert connected == [("127.0.0.2", 443)]
    assert names == [HOST]


def test_the_next_address_is_tried_where_one_cannot_be_connected_to(
    serve: Callable[[str], int], bundle: str
) -> None:
    with port_443_is(serve(HOST)) as connected:
        assert fetch(bundle, lambda *_: ["127.0.0.2", "127.0.0.1"]) == CONTENT
    assert [address for address, _ in connected] == ["127.0.0.2", "127.0.0.1"]

    too_many = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
    with port_443_is(serve(HOST)), pytest.raises(PhotoError, match="connection failed: "):
        fetch(bundle, lambda *_: too_many)


def test_netrc_and_cookies_are_not_used(
    serve: Callable[[str], int], bundle: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login user password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    sent: list[bytes] = []
    send = ssl.SSLSocket.sendall

    def recorded(self: ssl.SSLSocket, data: bytes, flags: int = 0) -> None:
        sent.append(bytes(data))
        send(self, data, flags)

    monkeypatch.setattr(ssl.SSLSocket, "sendall", recorded)
    with port_443_is(serve(HOST)):
        fetch(bundle, lambda *_: ["127.0.0.1"])

    request = b"".join(sent).lower()
    assert request.startswith(b"get /a http/1.1\r\n")
    assert b"authorization" not in request
    assert b"cookie" not in request


class Proxy:
    """An HTTP proxy whose every tunnel leads to one port of loopback."""

    def __init__(self, port: int) -> None:
        self.tunnels: list[str] = []
        self._port = port

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._tunnel, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.tunnels.append(head.decode().split()[1])
        there = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def test_a_proxy_of_the_environment_is_used_and_resolves_the_host(
    serve: Callable[[str], int],
    bundle: str,
    background: Background,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = Proxy(serve(HOST))
    port = background.run(proxy.start())
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")

    assert fetch(bundle) == CONTENT
    background.run(proxy.stop())

    assert proxy.tunnels == [f"{HOST}:443"]


def test_a_proxy_that_cannot_be_used_is_reported_for_every_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:hunter2@127.0.0.1:1080")

    with pytest.raises(Exception, match="SOCKS") as error:
        read_archive_settings({"STORAGE_URL": "file:///srv/dimmy", "PHOTO_HOSTS": "a.io b.io"})

    assert "add a.io to NO_PROXY" in str(error.value)
    assert "add b.io to NO_PROXY" in str(error.value)
    assert "hunter2" not in str(error.value)
