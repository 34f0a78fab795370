"""The photos that the sandbox's Dimmy serves, without a key, with fault injection.

Every name has a photo: the one that was put in, or a drawing that differs for each name.
"""

import asyncio
import contextlib
import random
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

_WIDTH, _HEIGHT = 320, 240
_TRICKLE_SECONDS = 0.02
_CHUNK = bytes(256 * 1024)

FaultKind = Literal[
    "status",  # with `status`, and a page of HTML as its body
    "redirect",  # to `location`
    "trickle",  # one byte at a time, for minutes
    "cut",  # Content-Length is that of the photo, but only half of it is sent
    "unmarked end",  # half of it, and the connection's end is the only end
    "compressed",  # Content-Encoding, although nobody has asked for it
    "empty",
    "endless",  # in chunks, as long as the client reads
    "too large",  # Content-Length says so
]


@dataclass
class PhotoFault:
    """A fault; `name` limits it to one photo, `times` is the maximum number of failures."""

    kind: FaultKind = "status"
    status: int = 403
    location: str = ""
    name: str | None = None
    times: int | None = None


@dataclass(frozen=True)
class PhotoRequest:
    """A request for a photo."""

    name: str
    query: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class _Photo:
    content: bytes
    content_type: str


class Photos:
    """The handler of `/photos/{name}`. All methods may be called from any thread."""

    def __init__(self) -> None:
        self.requests: list[PhotoRequest] = []
        self.concurrent_requests = 0
        self.max_concurrent_requests = 0
        self._photos: dict[str, _Photo] = {}
        self._faults: list[PhotoFault] = []
        self._is_held = False

    def put(self, name: str, content: bytes, content_type: str = "image/jpeg") -> None:
        """Serve this content."""
        self._photos[name] = _Photo(content, content_type)

    def content_of(self, name: str) -> bytes:
        """What is served."""
        return self._photo(name).content

    def fail(self, fault: PhotoFault) -> None:
        """Inject a fault into the next requests, until `clear_faults`."""
        self._faults.append(fault)

    def clear_faults(self) -> None:
        self._faults.clear()

    def hold(self) -> None:
        """Answer no request until `release`."""
        self._is_held = True

    def release(self) -> None:
        self._is_held = False

    def requests_for(self, name: str) -> int:
        return sum(request.name == name for request in self.requests)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for a photo."""
        name = request.match_info["name"]
        self.requests.append(PhotoRequest(name, request.query_string, dict(request.headers)))
        self.concurrent_requests += 1
        self.max_concurrent_requests = max(self.max_concurrent_requests, self.concurrent_requests)
        try:
            while self._is_held:  # noqa: ASYNC110 (threads)
                await asyncio.sleep(0.02)
            photo = self._photo(name)
            if fault := self._fault_for(name):
                return await _answer_wrongly(request, photo, fault)
            return web.Response(body=photo.content, content_type=photo.content_type)
        finally:
            self.concurrent_requests -= 1

    def _photo(self, name: str) -> _Photo:
        return self._photos.get(name) or _Photo(draw_photo(name), "image/png")

    def _fault_for(self, name: str) -> PhotoFault | None:
        for fault in self._faults:
            if fault.name in {None, name} and fault.times != 0:
                if fault.times:
                    fault.times -= 1
                return fault
        return None


def draw_photo(name: str) -> bytes:
    """A drawing (PNG) of a box on a floor, different for each name."""
    rng = random.Random(name)
    floor, side, front, top = (bytes(rng.randrange(60, 240) for _ in range(3)) for _ in range(4))
    x, y = rng.randint(60, 120), rng.randint(70, 110)
    width, height, depth = rng.randint(60, 120), rng.randint(50, 100), rng.randint(20, 50)

    def row(line: int) -> bytes:
        background = side if line < 150 else floor
        color = top if y - 16 <= line < y else front if y <= line < y + height else background
        before = x + (depth if color is top else 0)
        return background * before + color * width + background * (_WIDTH - before - width)

    lines = b"".join(b"\0" + row(line) for line in range(_HEIGHT))
    header = struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 8, 2, 0, 0, 0)  # 8 bits, RGB
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*chunk) for chunk in chunks)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


async def _answer_wrongly(
    request: web.Request, photo: _Photo, fault: PhotoFault
) -> web.StreamResponse:
    if whole := _whole_answer(photo, fault):
        return whole
    size = len(photo.content)
    match fault.kind:
        case "trickle":
            return await _send(request, 10_000, bytes(10_000), slowly=True)
        case "cut":
            return await _send(request, size, photo.content[: size // 2])
        case "too large":
            return await _send(request, 2**40, b"\0")
        case "endless":
            return await _send_endlessly(request)
    # Ends like an answer of HTTP/1.0, which aiohttp would mark.
    if request.transport:
        request.transport.write(b"HTTP/1.0 200 OK\r\n\r\n" + photo.content[: size // 2])
        request.transport.close()
    return web.Response()


def _whole_answer(photo: _Photo, fault: PhotoFault) -> web.Response | None:
    """The answer to a fault that is a complete response."""
    match fault.kind:
        case "status":
            return web.Response(status=fault.status, text="<p>Denied", content_type="text/html")
        case "redirect":
            return web.Response(status=fault.status, headers={"Location": fault.location})
        case "empty":
            return web.Response(body=b"", content_type=photo.content_type)
        case "compressed":
            compressed = web.Response(body=photo.content, content_type=photo.content_type)
            compressed.enable_compression(web.ContentCoding.gzip)
            return compressed
    return None


async def _send_endlessly(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(_CHUNK)
    return response


async def _send(
    request: web.Request, length: int, content: bytes, *, slowly: bool = False
) -> web.StreamResponse:
    """Send this content with this Content-Length, and close the connection."""
    response = web.StreamResponse(headers={"Content-Length": str(length)})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        if slowly:
            for byte in content:
                await response.write(bytes([byte]))
                await asyncio.sleep(_TRICKLE_SECONDS)
        else:
            await response.write(content)
            if request.transport:
                request.transport.close()
    return response
