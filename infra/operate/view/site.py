"""Serves the pages on loopback, read only. The content of items is always escaped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web

from operate.console import CommandError, UsageError, text_of
from operate.diagnosis.findings import findings
from operate.diagnosis.story import tell
from operate.installation import Finding, Installation
from operate.signed_webhooks import name_of_event
from operate.times import shown, shown_text
from operate.view.drawing import HEIGHT, WIDTH, draw
from operate.view.events import STATES, Event, EventList, Sources, read_sources, search
from operate.view.index import Index
from operate.view.photos import StoredPhotos
from operate.view.scan import indented, read_scan
from operate.view.storage_errors import UnreadableError
from operate.view.stories import Stories, first_items
from pipeline.message import is_event_id

_PAGES = Path(__file__).with_name("pages")
_FILES = {
    "view.css": ("view.css", "text/css"),
    "view.js": ("view.js", "text/javascript"),
    "favicon.ico": ("icon.svg", "image/svg+xml"),  # browsers ask for it with a page of JSON
}
_ROWS = 100
_MAX_ROWS = 10_000
_MAX_RAW_BYTES = 200_000
_NO_PHOTO = b'<svg xmlns="http://www.w3.org/2000/svg"/>'  # in place of a thumbnail
_MAX_THUMBNAIL_BYTES = 5_000_000  # a thumbnail is the photo itself, made small by the browser
_IDLE_SECONDS = 60.0  # after the last request; then nothing is read until the next one

# A second line of defence: should the content of an item ever become markup, it could do nothing.
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
    """The pages of one installation, for as long as `app` is served.

    Storage and the status are read at the intervals of the installation, but only while a page
    is open.
    """

    def __init__(self, installation: Installation, index: Index, photos: StoredPhotos) -> None:
        self._installation = installation
        self._index = index
        self._photos = photos
        self._findings: list[Finding] = []
        self._sources: Sources | None = None  # None: not known
        self._archives_photos = False
        self._announcement: asyncio.TimerHandle | None = None
        self._stories = Stories(installation, index)
        self._event_list = EventList()
        self._storage_error = ""
        self._version = 0  # of what the pages show
        self._listed_events: list[Event] = []
        self._events_version = -1  # the version that they were listed at
        self._changed = asyncio.Event()
        self._requested = asyncio.Event()
        self._requested_at = 0.0
        self._pages = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_PAGES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._pages.filters["shown"] = shown
        self._pages.filters["when"] = shown_text

    @property
    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._show_items)
        app.router.add_get("/items/{name}", self._show_item)
        app.router.add_get("/events", self._show_events)
        app.router.add_get("/events/{name}", self._show_event)
        app.router.add_get("/photos/{item}/{name}", self._show_photo)
        app.router.add_get("/changes", self._send_changes)
        app.router.add_get("/{file}", _send_file)
        app.on_response_prepare.append(_add_headers)
        app.cleanup_ctx.append(self._follow)
        return app

    async def _show_items(self, request: web.Request) -> web.Response:
        text, limit = _searched(request)
        rows, found = self._index.search(text, limit)
        return self._page(
            "items.html",
            text=text,
            rows=rows,
            found=found,
            more=_next_limit(limit, found),
            index=self._index,
            archives_photos=self._archives_photos,
            events=search(self._events(), text, "", 0)[1] if text else 0,
        )

    async def _show_events(self, request: web.Request) -> web.Response:
        text, limit = _searched(request)
        state = request.query.get("state", "")
        if state not in {"", *STATES}:
            return self._page("nothing.html", status=404, message=f"No event is ever {state}.")
        rows, found = search(self._events(), text, state, limit)
        return self._page(
            "events.html",
            text=text,
            rows=rows,
            found=found,
            more=_next_limit(limit, found),
            state=state,
            states=("", *STATES),
            is_cut=self._index.receipts.since is not None and not self._index.unread,
            unread=self._index.unread,
            is_loaded=self._sources is not None,
            is_queue_unknown=self._sources is not None and self._sources.queue is None,
            redrive=self._installation.instructions.command("redrive"),
        )

    def _events(self) -> list[Event]:
        if self._events_version != self._version:
            sources = self._sources or Sources((), (), {})
            self._listed_events = self._event_list.of(self._index.receipts, sources)
            self._events_version = self._version
        return self._listed_events

    async def _show_item(self, request: web.Request) -> web.Response:
        path = request.match_info["name"]
        name = path.removesuffix(".json")
        found = await asyncio.to_thread(self._index.item, name)
        if found is None:
            return self._page("nothing.html", status=404, message=f"There is no item {name}.")
        body, stored = found
        if name != path:
            return web.Response(body=body, content_type="application/json")
        scan = read_scan(name, body, stored)
        has_photos = any(step.photos for step in scan.steps)
        beginning = body[:_MAX_RAW_BYTES]
        return self._page(
            "item.html",
            scan=scan,
            stored=stored,
            receipts=self._index.receipts_of(name),
            stored_photos=await asyncio.to_thread(self._photos.names, name) if has_photos else (),
            drawing=draw(scan.summary.sides) if scan.summary.sides else None,
            drawing_size=(WIDTH, HEIGHT),
            raw=beginning.decode(errors="replace") if scan.summary.fault else indented(beginning),
            is_cut=len(body) > _MAX_RAW_BYTES,
        )

    async def _show_event(self, request: web.Request) -> web.Response:
        """The history of an event in words or, with .json at the end, its receipt."""
        path = request.match_info["name"]
        event_id = path.removesuffix(".json")
        if event_id != path:
            body = await asyncio.to_thread(self._index.receipt, event_id)
            if body is None:
                message = f"There is no receipt {event_id}."
                return self._page("nothing.html", status=404, message=message)
            return web.Response(body=body, content_type="application/json")
        if not is_event_id(event_id):
            return self._page("nothing.html", status=404, message=f"There is no event {event_id}.")
        try:
            evidence = await asyncio.to_thread(self._stories.evidence, event_id)
        except (CommandError, UsageError) as error:
            return self._page("nothing.html", status=503, message=str(error))
        if not evidence.is_known:
            message = f"Nothing is known about {event_id}."
            return self._page("nothing.html", status=404, message=message)
        receipt = evidence.receipt
        if not (receipt and receipt.is_finished):
            # The page may change when the event is read again.
            self._announce_change_later()
        items = first_items(receipt) if receipt else []
        return self._page(
            "event.html",
            event_id=event_id,
            name=name_of_event(event_id),
            story=tell(evidence, self._installation.instructions),
            receipt=receipt,
            items=[(name, state, self._index.has(name)) for name, state in items],
            more_items=len(receipt.items) - len(items) if receipt else 0,
        )

    async def _show_photo(self, request: web.Request) -> web.StreamResponse:
        photo = await self._photos.open(request.match_info["item"], request.match_info["name"])
        if "optional" in request.query and not (photo and photo.size <= _MAX_THUMBNAIL_BYTES):
            return web.Response(body=_NO_PHOTO, content_type="image/svg+xml")
        if photo is None:
            return self._page("nothing.html", status=404, message="There is no such photo.")
        response = web.StreamResponse()
        response.content_type = photo.content_type or "application/octet-stream"
        response.content_length = photo.size
        response.headers["Cache-Control"] = "private, max-age=86400"  # its name is a hash
        if not photo.content_type:
            response.headers["Content-Disposition"] = "attachment"
        await response.prepare(request)
        try:
            async for chunk in photo.chunks:
                await response.write(chunk)
        except (ConnectionError, UnreadableError):  # too late for another answer
            if request.transport:
                request.transport.abort()
        return response

    async def _send_changes(self, request: web.Request) -> web.StreamResponse:
        """An event stream (text/event-stream) with one event for each change."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        sent = -1
        with contextlib.suppress(ConnectionError):  # the page was closed
            while request.transport and not request.transport.is_closing():
                self._note_request()
                if sent != self._version:
                    sent = self._version
                    await response.write(f"data: {sent}\n\n".encode())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), timeout=1)
        return response

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        # Another site must not cause reads, although it could not see their results.
        fetched = request.headers.get("Sec-Fetch-Site"), request.headers.get("Sec-Fetch-Mode")
        if fetched[0] == "cross-site" and fetched[1] != "navigate":
            raise web.HTTPForbidden(text="Another site has asked for this.\n")
        # Under another host name, another site is trying to read this page (DNS rebinding).
        if request.url.host not in {"127.0.0.1", "localhost", "::1"}:
            raise web.HTTPForbidden(text="Open it as http://127.0.0.1 or http://localhost.\n")
        self._note_request()
        try:
            return await handler(request)
        except UnreadableError as error:
            return self._page(
                "nothing.html", status=503, message=f"Storage cannot be read: {error}"
            )

    async def _follow(self, _app: web.Application) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self._follow_storage()),
            asyncio.create_task(self._follow_status()),
        ]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _follow_storage(self) -> None:
        loop = asyncio.get_running_loop()

        def on_change() -> None:
            loop.call_soon_threadsafe(self._announce_change)

        while True:
            started_at = loop.time()
            error_text = ""
            try:
                await asyncio.to_thread(self._index.refresh, on_change)
            except UnreadableError as error:
                error_text = str(error)
            except Exception as error:  # noqa: BLE001  # for cases that nobody foresaw
                error_text = text_of(error)
            if error_text != self._storage_error:
                self._storage_error = error_text
                self._announce_change()
            # After a slow read, pause for as long as it took.
            spent = loop.time() - started_at
            await self._pause(max(spent, self._installation.storage_poll_seconds))

    async def _follow_status(self) -> None:
        while True:
            current = await asyncio.to_thread(self._read_status)
            if current != (self._findings, self._sources):
                self._findings, self._sources = current
                self._announce_change()
            await self._pause(self._installation.status_poll_seconds)

    def _read_status(self) -> tuple[list[Finding], Sources | None]:
        found: list[Finding] = []
        try:
            self._archives_photos = self._installation.archives_photos()
            found.extend(findings(self._installation))
            return found, read_sources(self._installation)
        except Exception as error:  # noqa: BLE001  # for cases that nobody foresaw
            value = "incomplete" if found else "unknown"
            return [*found, Finding("status", value, text_of(error))], None

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while asyncio.get_running_loop().time() - self._requested_at > _IDLE_SECONDS:
            self._requested.clear()
            await self._requested.wait()

    def _note_request(self) -> None:
        self._requested_at = asyncio.get_running_loop().time()
        self._requested.set()

    def _announce_change_later(self) -> None:
        """Announce one after an interval of the status, the same for all that ask until then."""
        loop = asyncio.get_running_loop()
        if self._announcement is None or self._announcement.when() <= loop.time():
            seconds = self._installation.status_poll_seconds
            self._announcement = loop.call_later(seconds, self._announce_change)

    def _announce_change(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed.clear()

    def _page(self, page: str, status: int = 200, **values: Any) -> web.Response:
        html = self._pages.get_template(page).render(
            title=self._installation.title,
            findings=self._findings,
            storage_error=self._storage_error,
            **values,
        )
        return web.Response(text=html, content_type="text/html", status=status)


def open_site(installation: Installation, limit: int) -> Site:
    """The pages of an installation, with at most `limit` items.

    Raises:
        UsageError: its storage cannot be opened.
    """
    settings = installation.storage()
    return Site(installation, Index(settings, limit), StoredPhotos(settings))


def _searched(request: web.Request) -> tuple[str, int]:
    """The text that is searched for, and the number of rows to show."""
    wanted = request.query.get("rows", "")
    limit = min(int(wanted), _MAX_ROWS) if wanted.isdecimal() else _ROWS
    return request.query.get("q", "")[:200], limit


def _next_limit(limit: int, found: int) -> int:
    """The number of rows that "Show more" asks for; 0 if all are shown."""
    return limit * 5 if limit < min(found, _MAX_ROWS) else 0


async def _send_file(request: web.Request) -> web.Response:
    found = _FILES.get(request.match_info["file"])
    if found is None:
        raise web.HTTPNotFound
    name, content_type = found
    return web.Response(body=(_PAGES / name).read_bytes(), content_type=content_type)


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
