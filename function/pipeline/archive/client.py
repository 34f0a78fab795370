"""Fetches photos: only allowed addresses, redirects included, in bounded time and size.

A host's name is resolved once for each connection. The addresses are checked, and one of those that
were checked is connected to, so that a name cannot lead elsewhere in between (DNS rebinding); TLS
still verifies the name. Behind a proxy, the proxy resolves names: then its own rules have to keep
requests out of private networks, and PHOTO_HOSTS is all that is checked here.
"""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util.connection import create_connection

from pipeline.archive.addresses import Address, LookupFailedError, NotAllowedError
from pipeline.deadline import Deadline
from pipeline.http_client.connections import (
    DeadlineAdapter,
    DeadlineHttpConnection,
    DeadlineHttpsConnection,
    PoolClasses,
    pool_classes,
    response_deadline,
)
from pipeline.http_client.network import Network, open_session

MAX_PHOTO_BYTES = 64 * 1024 * 1024
PHOTO_SECONDS = 120.0

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 15.0  # without a byte
_ADDRESSES_TRIED = 2
_REDIRECTS_FOLLOWED = 3
_REDIRECTS = {301, 302, 303, 307, 308}
_CHUNK_BYTES = 64 * 1024
_REASON_CHARACTERS = 60

_BINARY = "application/octet-stream"
_IMAGE = re.compile(r"image/[a-z0-9][a-z0-9.+-]{0,60}")
_NOT_KEPT = {"image/svg+xml"}  # a document, which may contain a program
_KEPT = {_BINARY, "binary/octet-stream"}
# The notice of a gateway or a page to sign in, in place of the photo.
_NO_PHOTOS = {
    "text/html",
    "text/xml",
    "application/json",
    "application/problem+json",
    "application/xhtml+xml",
    "application/xml",
}

LookUp = Callable[[str, int], Sequence[str]]


class PhotoError(Exception):
    """The photo cannot be fetched now. The text is the reason, without the address."""


class TooLargeError(Exception):
    """The photo is larger than MAX_PHOTO_BYTES, and will be the next time, too."""


@dataclass(frozen=True, slots=True)
class PhotoResponse:
    """A photo that is being received.

    `chunks` raises PhotoError where the rest cannot be received, and TooLargeError.
    """

    content_type: str
    chunks: Iterator[bytes] = field(repr=False)


class PhotoClient:
    """Fetches photos from these origins. Share one between all threads."""

    def __init__(self, origins: Mapping[str, Network], threads: int, look_up: LookUp) -> None:
        self._origins = origins
        self._session = open_session()
        # What arrives is stored as it is, so it must not be compressed in transit.
        self._session.headers.update({"Accept": "image/*, */*", "Accept-Encoding": "identity"})
        self._session.mount("http://", _CheckedAdapter(look_up, pool_maxsize=threads))
        self._session.mount("https://", _CheckedAdapter(look_up, pool_maxsize=threads))

    @contextlib.contextmanager
    def open(self, address: Address, deadline: Deadline) -> Iterator[PhotoResponse]:
        """The photo at an address, while the block runs.

        Raises:
            PhotoError: it cannot be fetched now.
            TooLargeError: it says that it is too large.
        """
        end = time.monotonic() + min(PHOTO_SECONDS, deadline.remaining)
        with _photo_errors(end), response_deadline(end), self._follow(address, end) as response:
            yield PhotoResponse(_content_type(response), _chunks(response, deadline, end))

    def _follow(self, address: Address, end: float) -> requests.Response:
        """The response with the photo, after at most some redirects."""
        for _ in range(_REDIRECTS_FOLLOWED + 1):
            response = self._send(address, end)
            if response.status_code not in _REDIRECTS:
                try:
                    _check(response)
                except (PhotoError, TooLargeError):
                    response.close()  # its body is not read
                    raise
                return response
            location = response.headers.get("Location", "")
            response.close()  # its body is not read
            try:
                address = address.redirected(location, self._origins)
            except NotAllowedError as error:
                status = response.status_code
                raise PhotoError(f"{status}, but the address that it leads to {error}") from error
        raise PhotoError(f"more than {_REDIRECTS_FOLLOWED} redirects")

    def _send(self, address: Address, end: float) -> requests.Response:
        network = self._origins[address.origin]
        seconds = max(0.001, end - time.monotonic())
        try:
            return self._session.send(
                self._session.prepare_request(requests.Request("GET", address.url)),
                proxies=dict(network.proxies),
                verify=network.ca_bundle or True,
                timeout=(min(_CONNECT_SECONDS, seconds), min(_READ_SECONDS, seconds)),
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException:
            raise
        except OSError as error:  # requests', where its file of certificates has gone
            raise PhotoError(f"environment: {type(error).__name__}") from error


class _CheckedConnection(HTTPConnection):
    """Connects to an address that `look_up` has returned, and to no other."""

    look_up: LookUp

    def _new_conn(self) -> socket.socket:
        try:
            addresses = self.look_up(self.host, self.port)
        except LookupFailedError as error:
            raise PhotoError(str(error)) from error
        failure: OSError | None = None
        for address in addresses[:_ADDRESSES_TRIED]:
            try:
                return create_connection(
                    (address, self.port), self.timeout, socket_options=self.socket_options
                )
            except OSError as error:
                failure = error
        raise PhotoError(f"connection failed: {type(failure).__name__}") from failure


class _CheckedAdapter(DeadlineAdapter):
    """Checks the addresses of hosts, except where a proxy resolves them."""

    def __init__(self, look_up: LookUp, **options: Any) -> None:
        self._look_up = look_up
        super().__init__(**options)

    def direct_pool_classes(self) -> PoolClasses:
        checked = {"look_up": staticmethod(self._look_up)}
        return pool_classes(
            type("HttpConnection", (_CheckedConnection, DeadlineHttpConnection), checked),
            type("HttpsConnection", (_CheckedConnection, DeadlineHttpsConnection), checked),
        )


def _check(response: requests.Response) -> None:
    """Raise PhotoError or TooLargeError unless the body of the response is a photo."""
    if response.status_code != 200:
        reason = "".join(c for c in str(response.reason or "") if c.isprintable())
        raise PhotoError(f"{response.status_code}: {reason[:_REASON_CHARACTERS]}".rstrip(": "))
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise PhotoError(f"200, but encoded as {encoding[:_REASON_CHARACTERS]}")
    if (given := _given_type(response)) in _NO_PHOTOS:
        raise PhotoError(f"200, but {given} instead of a photo")
    length = response.raw.length_remaining
    # Otherwise a connection that is cut looks like the end of the photo.
    if length is None and not response.raw.chunked:
        raise PhotoError("200, but without the size of the photo")
    if length is not None and length > MAX_PHOTO_BYTES:
        raise TooLargeError


def _chunks(response: requests.Response, deadline: Deadline, end: float) -> Iterator[bytes]:
    received = 0
    with _photo_errors(end):
        # read1 returns what has arrived; iter_content would wait until a chunk is complete.
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
            received += len(chunk)
            if received > MAX_PHOTO_BYTES:
                raise TooLargeError
            if not deadline.remaining:
                raise PhotoError(deadline.reason)
            if time.monotonic() > end:
                raise PhotoError("timeout")
            yield chunk
    if not received:
        raise PhotoError("200, but empty")


def _content_type(response: requests.Response) -> str:
    """That of the photo if it is one of images or binary data, without parameters.

    Anything else might make a web page of the stored object.
    """
    given = _given_type(response)
    is_kept = given in _KEPT or (_IMAGE.fullmatch(given) and given not in _NOT_KEPT)
    return given if is_kept else _BINARY


def _given_type(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


@contextlib.contextmanager
def _photo_errors(end: float) -> Iterator[None]:
    try:
        yield
    except (requests.Timeout, ReadTimeoutError, TimeoutError):
        raise PhotoError("timeout") from None
    except (requests.RequestException, HTTPError) as error:
        if time.monotonic() >= end:
            raise PhotoError("timeout") from None
        raise PhotoError(f"connection failed: {type(error).__name__}") from error
