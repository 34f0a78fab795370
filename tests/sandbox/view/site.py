"""The pages, served on loopback, read-only; what an item says comes into them as text alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web

from operate.status import Finding
from sandbox.view.drawing import HEIGHT, WIDTH, draw
from sandbox.view.index import Index, UnreadableError
from sandbox.view.scan import indented, read_scan, utc
from sandbox.view.state import State

_PAGES = Path(__file__).with_name("pages")
_FILES = {
    "view.css": ("view.css", "text/css"),
    "view.js": ("view.js", "text/javascript"),
    "favicon.ico": ("icon.svg", "image/svg+xml"),  # browsers ask for it beside a page of JSON
}
_ROWS = 100
_MOST_ROWS = 10_000
_MOST_RAW_BYTES = 200_000
_IDLE_SECONDS = 60.0  # after the last request, nothing is looked at until the next one

# Were anything of an item ever taken for markup, this would still keep it from doing anything.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self' https: http://127.0.0.1:*; base-uri 'none'; form-action 'self';"
        " frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Site:
    """The pages of one index, for as long as `app` is served.

    `title` says whose items they are. Storage is looked at every so many seconds, the pipeline's
    state as often as it asks for; neither while nobody looks at a page.
    """

    def __init__(self, title: str, index: Index, state: State, every_seconds: float) -> None:
        self._title = title
        self._index = index
        self._state = state
        self._every_seconds = every_seconds
        self._findings: list[Finding] = []
        self._trouble = ""  # why storage cannot be read
        self._changes = 0
        self._changed = asyncio.Event()
        self._asked = asyncio.Event()
        self._asked_at = 0.0
        self._pages = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_PAGES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._pages.filters["utc"] = utc

    @property
    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._show_items)
        app.router.add_get("/items/{name}", self._show_item)
        app.router.add_get("/events/{name}", self._show_receipt)
        app.router.add_get("/changes", self._tell_changes)
        app.router.add_get("/{file}", _send_file)
        app.on_response_prepare.append(_add_headers)
        app.cleanup_ctx.append(self._keep_looking)
        return app

    async def _show_items(self, request: web.Request) -> web.Response:
        text = request.query.get("q", "")[:200]
        asked_for = request.query.get("rows", "")
        most = min(int(asked_for), _MOST_ROWS) if asked_for.isdecimal() else _ROWS
        rows, found = self._index.search(text, most)
        more = most * 5 if len(rows) < min(found, _MOST_ROWS) else 0
        return self._page(
            "items.html", text=text, rows=rows, found=found, more=more, index=self._index
        )

    async def _show_item(self, request: web.Request) -> web.Response:
        asked_for = request.match_info["name"]
        name = asked_for.removesuffix(".json")
        found = await asyncio.to_thread(self._index.item, name)
        if found is None:
            return self._page("nothing.html", status=404, what=f"There is no item {name} here.")
        body, stored = found
        if name != asked_for:
            return web.Response(body=body, content_type="application/json")
        scan = read_scan(name, body, stored)
        beginning = body[:_MOST_RAW_BYTES]
        return self._page(
            "item.html",
            scan=scan,
            stored=stored,
            receipts=self._index.receipts_of(name),
            drawing=draw(scan.summary.sides) if scan.summary.sides else None,
            drawing_size=(WIDTH, HEIGHT),
            raw=beginning.decode(errors="replace") if scan.summary.fault else indented(beginning),
            is_cut=len(body) > _MOST_RAW_BYTES,
        )

    async def _show_receipt(self, request: web.Request) -> web.Response:
        name = request.match_info["name"].removesuffix(".json")
        body = await asyncio.to_thread(self._index.receipt, name)
        if body is None:
            return self._page("nothing.html", status=404, what=f"There is no receipt {name} here.")
        return web.Response(body=body, content_type="application/json")

    async def _tell_changes(self, request: web.Request) -> web.StreamResponse:
        """An event stream (text/event-stream): one event for each change of what is shown."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        told = -1
        with contextlib.suppress(ConnectionError):  # the page was closed
            while request.transport and not request.transport.is_closing():
                self._note_request()
                if told != self._changes:
                    told = self._changes
                    await response.write(f"data: {told}\n\n".encode())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), timeout=1)
        return response

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        # Another name that leads to loopback is somebody else's page that wants to read this one.
        if request.url.host not in {"127.0.0.1", "localhost", "::1"}:
            raise web.HTTPForbidden(text="Open it as http://127.0.0.1 or http://localhost.\n")
        self._note_request()
        try:
            return await handler(request)
        except UnreadableError as error:
            return self._page("nothing.html", status=503, what=f"Storage cannot be read: {error}")

    async def _keep_looking(self, _app: web.Application) -> AsyncIterator[None]:
        looking = [
            asyncio.create_task(self._look_at_storage()),
            asyncio.create_task(self._look_at_state()),
        ]
        yield
        for task in looking:
            task.cancel()
        await asyncio.wait(looking)

    async def _look_at_storage(self) -> None:
        loop = asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(self._tell)

        while True:
            trouble = ""
            try:
                await asyncio.to_thread(self._index.refresh, tell)
            except UnreadableError as error:
                trouble = str(error)
            if trouble != self._trouble:
                self._trouble = trouble
                self._tell()
            await self._pause(self._every_seconds)

    async def _look_at_state(self) -> None:
        while True:
            findings = await asyncio.to_thread(self._state.look)
            if findings != self._findings:
                self._findings = findings
                self._tell()
            await self._pause(self._state.every_seconds)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while asyncio.get_running_loop().time() - self._asked_at > _IDLE_SECONDS:
            self._asked.clear()
            await self._asked.wait()

    def _note_request(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        self._asked.set()

    def _tell(self) -> None:
        self._changes += 1
        self._changed.set()
        self._changed.clear()

    def _page(self, page: str, status: int = 200, **values: Any) -> web.Response:
        html = self._pages.get_template(page).render(
            title=self._title, findings=self._findings, trouble=self._trouble, **values
        )
        return web.Response(text=html, content_type="text/html", status=status)


async def _send_file(request: web.Request) -> web.Response:
    found = _FILES.get(request.match_info["file"])
    if found is None:
        raise web.HTTPNotFound
    name, content_type = found
    return web.Response(body=(_PAGES / name).read_bytes(), content_type=content_type)


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
