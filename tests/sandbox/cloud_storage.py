"""Cloud Storage as far as it is used: its XML API's PUT, GET, HEAD and listing, with generations.

STORAGE_EMULATOR_HOST brings the functions here.
"""

import asyncio
import hashlib
import itertools
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from xml.sax.saxutils import escape

from aiohttp import web

_PAGE = 1000  # objects in one answer to a listing


@dataclass(frozen=True)
class Stored:
    """One generation of one object."""

    content: bytes
    generation: int
    written: datetime


class CloudStorage:
    """The server, for any bucket. `refuse` lets its next requests fail with a status."""

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.writes = 0
        self.halted = False  # a write is waiting
        self._halting: str | None = None
        self.always_conflicting = False  # as if another writer were always faster
        self.refused = 0
        self.repeated_writes = 0  # of items that lay there already
        self._refusals: list[int] = []
        self._refused_share = 0.0
        self._chance = random.Random()
        self._generations = itertools.count(1_700_000_000_000_000)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """What STORAGE_EMULATOR_HOST has to be."""
        assert self._runner
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_put("/{name:.+}", self._put)
        app.router.add_get("/{name:.+}", self._get)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    def refuse(self, status: int, times: int = 1) -> None:
        """Answer the next requests with an error."""
        self._refusals += [status] * times

    def refuse_share(self, share: float, seed: int) -> None:
        """Let a share of all writes fail from now on, in a way that invites no second try."""
        self._refused_share = share
        self._chance = random.Random(seed)

    def halt_at(self, name: str | None) -> None:
        """Keep writes of objects with such names waiting, until told otherwise."""
        self._halting = name
        self.halted = False

    def count(self, prefix: str) -> int:
        """How many objects have names that begin so."""
        return sum(name.startswith(prefix) for name in self.objects)

    def place(self, name: str, content: bytes) -> None:
        """Write an object (its name begins with the bucket's) whatever lies there."""
        self.objects[name] = Stored(content, next(self._generations), datetime.now(UTC))

    async def _put(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        content = await request.read()
        while self._halting and self._halting in name:
            self.halted = True
            await asyncio.sleep(0.02)
            if request.transport is None or request.transport.is_closing():
                return web.Response()  # the writer is gone, and so is its write
        if self._refusals:
            return web.Response(status=self._refusals.pop(0))
        if self._chance.random() < self._refused_share:
            self.refused += 1
            return web.Response(status=403)
        if self.always_conflicting:
            return web.Response(status=412)
        present = self.objects.get(name)
        expected = request.headers.get("x-goog-if-generation-match")
        if expected is not None and int(expected) != (present.generation if present else 0):
            return web.Response(status=412, text="<Error><Code>PreconditionFailed</Code></Error>")
        self.writes += 1
        self.repeated_writes += bool(present and present.content == content and "/items/" in name)
        self.place(name, content)
        return web.Response(headers=_headers(self.objects[name]))

    async def _get(self, request: web.Request) -> web.Response:
        if self._refusals:
            return web.Response(status=self._refusals.pop(0))
        if "list-type" in request.query:
            return self._list(request)
        found = self.objects.get(request.match_info["name"])
        if not found:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        return web.Response(body=found.content, headers=_headers(found))

    def _list(self, request: web.Request) -> web.Response:
        bucket, query = request.match_info["name"].rstrip("/"), request.query
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        names = sorted(
            name
            for name in (whole.removeprefix(f"{bucket}/") for whole in self.objects)
            if name.startswith(prefix) and name > after
        )
        page = names[:_PAGE]
        contents = "".join(_listed(name, self.objects[f"{bucket}/{name}"]) for name in page)
        if names[_PAGE:]:
            contents += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        return web.Response(
            text=f"<ListBucketResult>{contents}</ListBucketResult>",
            content_type="application/xml",
        )


def _listed(name: str, stored: Stored) -> str:
    return (
        f"<Contents><Key>{escape(name)}</Key><Size>{len(stored.content)}</Size>"
        f"<LastModified>{stored.written.isoformat()}</LastModified>"
        f"<ETag>{escape(_headers(stored)['ETag'])}</ETag></Contents>"
    )


def _headers(stored: Stored) -> dict[str, str]:
    return {
        "ETag": f'"{hashlib.md5(stored.content, usedforsecurity=False).hexdigest()}"',
        "x-goog-generation": str(stored.generation),
        "Last-Modified": format_datetime(stored.written, usegmt=True),
    }
