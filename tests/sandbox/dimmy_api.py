"""A local copy of Dimmy's REST API, `GET /items/{id}` and `GET /items`, with fault injection.

It checks the API key, and its errors have FastAPI's format. It serves each item byte for byte as it
was put in.
"""

import asyncio
import contextlib
import json
import random
import re
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from aiohttp import web

from sandbox.catalogue import Item
from sandbox.photos import Photos
from sandbox.web_server import WebServer

_ID = re.compile(r"[0-9a-f]{24}")

INJECTED_FAULT = "an injected fault"

FaultKind = Literal[
    "status",
    "bare status",
    "cut",
    "cut in the body",
    "trickle",
    "truncated",
    "not json",
    "another item",
]


@dataclass
class Fault:
    """A fault, and the requests that it affects.

    `item_id` limits it to the requests for one item. `share` is the probability that a matching
    request fails, `times` the maximum number of failures, `after` the number of matching requests
    that succeed first. `listings`: only requests for lists of items match, not for single ones.
    `detail` is the reason in the body, or the whole body of a "bare status".
    """

    kind: FaultKind = "status"
    status: int = 500
    detail: str = INJECTED_FAULT
    listings: bool = False
    retry_after: str | None = None
    location: str | None = None
    item_id: str | None = None
    share: float = 1.0
    times: int | None = None
    after: int = 0


@dataclass(frozen=True)
class ReceivedRequest:
    """One request that the API received."""

    path: str
    query: str
    key: str | None
    authorization: str | None
    status: int | None  # None: the connection was cut
    arrived: float  # monotonic, in seconds


class DimmyApi:
    """The server. Start and stop it in the same event loop; `put` may be called from any thread."""

    def __init__(self, key: str, seed: int = 0, port: int = 0) -> None:
        self.key = key
        self.photos = Photos()
        self.requests: list[ReceivedRequest] = []
        self.concurrent_requests = 0
        self.max_concurrent_requests = 0
        self.compress = False
        self._held_id: str | None = None
        self.ignores_skip = False
        self.excludes_start = False  # of a window: only items created after it are listed
        self.unservable_ids: set[str] = set()  # every response with one of them is a 500
        self.latency: Callable[[], float] = lambda: 0.0
        self._items: dict[str, bytes] = {}
        self._created: dict[str, datetime] = {}
        self._by_age: list[tuple[datetime, str]] | None = None  # None: not sorted
        self._faults: list[Fault] = []
        self._rng = random.Random(seed)
        self._server: WebServer | None = None
        self._port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def photo_url_prefix(self) -> str:
        """The beginning of the URLs under which it serves photos, without a key."""
        return f"{self.url}/photos/"

    async def start(self) -> None:
        """Serve on loopback; after a restart on the same port."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/items/{id}", self._get_item)
        app.router.add_get("/items", self._list_items)
        app.router.add_get("/photos/{name:.+}", self.photos.handle)
        self._server = await WebServer.start(app, self._port)
        self._port = self._server.port

    async def stop(self) -> None:
        if self._server:
            await self._server.stop()
            self._server = None

    def put(self, item: Item, body: bytes | None = None) -> str:
        """Add or replace an item and return its id. It is served as `body`, or as compact JSON."""
        compact = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
        self._items[item["_id"]] = compact if body is None else body
        self._created[item["_id"]] = datetime.fromisoformat(item["created_at"])
        self._by_age = None
        return str(item["_id"])

    def delete(self, item_id: str) -> None:
        """Delete an item."""
        del self._items[item_id], self._created[item_id]
        self._by_age = None

    def body_of(self, item_id: str) -> bytes:
        """The JSON of an item, as it is served."""
        return self._items[item_id]

    def fail(self, fault: Fault) -> None:
        """Inject a fault into the next requests, until `clear_faults`."""
        self._faults.append(fault)

    def hold_requests(self, item_id: str | None) -> None:
        """Hold the responses to requests for this item; None releases them."""
        self._held_id = item_id

    def clear_faults(self) -> None:
        self._faults.clear()

    def requests_for(self, item_id: str) -> int:
        return sum(request.path == f"/items/{item_id}" for request in self.requests)

    async def _get_item(self, request: web.Request) -> web.StreamResponse:
        item_id = request.match_info["id"]
        return await self._answer(request, item_id, lambda: self._item(item_id))

    async def _list_items(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, None, lambda: self._page(request))

    async def _answer(
        self, request: web.Request, item_id: str | None, work: Callable[[], web.Response]
    ) -> web.StreamResponse:
        arrived = time.monotonic()
        self.concurrent_requests += 1
        self.max_concurrent_requests = max(self.max_concurrent_requests, self.concurrent_requests)
        try:
            while item_id is not None and item_id == self._held_id:  # noqa: ASYNC110 (threads)
                await asyncio.sleep(0.02)
            await asyncio.sleep(self.latency())
            fault = self._fault_for(item_id)
            response = await self._inject(request, fault) if fault else None
            if response is None and not fault:
                response = self._refusal(request) or work()
            if self.compress and response:
                response.enable_compression()
            self._record(request, response, arrived)
            return response or web.Response()
        finally:
            self.concurrent_requests -= 1

    def _refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("X-API-KEY") != self.key:
            return _error(401, "Invalid API key")
        return None

    def _item(self, item_id: str) -> web.Response:
        if not _ID.fullmatch(item_id):
            return _error(
                422,
                [
                    {
                        "type": "string_pattern_mismatch",
                        "loc": ["path", "item_id"],
                        "msg": "not a valid id",
                        "input": item_id,
                    }
                ],
            )
        if item_id not in self._items:
            return _error(404, "Item not found")
        return _json(self._items[item_id])

    def _page(self, request: web.Request) -> web.Response:
        try:
            start, end = (_time(request.query.get(name)) for name in ("start_date", "end_date"))
            skip, limit = (
                int(request.query.get(name, default)) for name, default in _PAGE_DEFAULTS.items()
            )
        except ValueError as error:
            return _error(422, [{"type": "value_error", "loc": ["query"], "msg": str(error)}])
        if skip < 0 or limit < 0:
            return _error(422, [{"type": "greater_than_equal", "loc": ["query"], "msg": ">= 0"}])
        if self._by_age is None:
            self._by_age = sorted((created, name) for name, created in self._created.items())
        after = "g" if self.excludes_start else ""  # ids are hexadecimal
        first = bisect_left(self._by_age, (start, after)) if start else 0
        last = bisect_left(self._by_age, (end, "")) if end else len(self._by_age)
        skip = 0 if self.ignores_skip else skip
        chosen = self._by_age[first + skip : min(last, first + skip + limit)]
        page = [self._items[item_id] for _, item_id in chosen]
        if any(item_id in self.unservable_ids for _, item_id in chosen):
            return _error(500, INJECTED_FAULT)
        if not page:
            return _error(404, "No items found")
        return _json(b"[" + b",".join(page) + b"]")

    def _fault_for(self, item_id: str | None) -> Fault | None:
        for fault in self._faults:
            if fault.item_id not in {None, item_id} or fault.times == 0:
                continue
            if fault.listings and item_id is not None:
                continue
            if fault.after:
                fault.after -= 1
            elif self._rng.random() < fault.share:
                if fault.times:
                    fault.times -= 1
                return fault
        return None

    async def _inject(self, request: web.Request, fault: Fault) -> web.StreamResponse | None:
        """Send the faulty response; None if the connection was cut instead."""
        if fault.kind == "trickle":
            return await _trickle(request, fault.status)
        if not fault.kind.startswith("cut"):
            return _faulty_response(fault)
        if fault.kind == "cut in the body":
            partial = web.StreamResponse(headers={"Content-Length": "1000"})
            await partial.prepare(request)
            await partial.write(b'{"_id": ')
        if request.transport:
            request.transport.abort()
        return None

    def _record(
        self, request: web.Request, response: web.StreamResponse | None, arrived: float
    ) -> None:
        self.requests.append(
            ReceivedRequest(
                path=request.path,
                query=request.query_string,
                key=request.headers.get("X-API-KEY"),
                authorization=request.headers.get("Authorization"),
                status=response.status if response else None,
                arrived=arrived,
            )
        )


def _faulty_response(fault: Fault) -> web.Response:
    match fault.kind:
        case "bare status":
            return web.Response(status=fault.status, text=fault.detail)
        case "truncated":
            return _json(b'{"_id": "67c861de20bb29fb40d2cbbd", "created_at": "2025-')
        case "not json":
            return web.Response(text="<html>Bad gateway</html>", content_type="text/html")
        case "another item":
            return _json(b'{"_id":"000000000000000000000000"}')
    headers = {"Retry-After": fault.retry_after, "Location": fault.location}
    response = _error(fault.status, fault.detail)
    response.headers.update({name: value for name, value in headers.items() if value})
    return response


async def _trickle(request: web.Request, status: int) -> web.StreamResponse:
    """Send the body one byte at a time, fast enough that no single read times out."""
    headers = {"Content-Length": "1000", "Location": "/elsewhere"}
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        for _ in range(1000):
            await response.write(b" ")
            await asyncio.sleep(0.02)
    return response


_PAGE_DEFAULTS = {"skip": "0", "limit": "100"}


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _error(status: int, detail: Any) -> web.Response:
    return web.json_response({"detail": detail}, status=status)
