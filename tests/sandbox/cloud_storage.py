"""A local Cloud Storage: its XML API with generations and uploads in parts, and both listings.

STORAGE_EMULATOR_HOST makes the functions use it.
"""

import asyncio
import bisect
import hashlib
import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from xml.sax.saxutils import escape

from aiohttp import web

from sandbox.web_server import WebServer

_LEAST_PART_BYTES = 5 * 1024 * 1024  # of an upload, but for the last part
_PAGE_OBJECTS = 1000  # in one response to a listing


@dataclass(frozen=True)
class StoredObject:
    """One generation of an object."""

    content: bytes
    generation: int
    written: datetime
    content_type: str = ""


class _Objects(dict[str, StoredObject]):
    """Objects by their names, which it keeps sorted for listings."""

    _sorted: list[str] | None = None

    def __setitem__(self, name: str, stored: StoredObject) -> None:
        if name not in self:
            self._sorted = None
        super().__setitem__(name, stored)

    def __delitem__(self, name: str) -> None:
        self._sorted = None
        super().__delitem__(name)

    def pop(self, name: str, *default: Any) -> Any:
        self._sorted = None
        return super().pop(name, *default)

    def sorted_names(self) -> list[str]:
        if self._sorted is None:
            self._sorted = sorted(self)
        return self._sorted


class CloudStorage:
    """The server. It accepts any bucket. `fail_next` makes its next requests fail."""

    def __init__(self) -> None:
        self.objects = _Objects()
        self.listings = 0  # requests of the JSON API
        self.listing_seconds = 0.0  # that each of them takes
        self.writes = 0
        self.holds_write = False
        self.held_writes = 0
        self._held_name: str | None = None
        self.always_conflicting = False  # every write fails with 412
        self.refused = 0
        self.repeated_writes = 0  # writes of an item that did not change it
        self._next_failures: list[int] = []
        self._next_lost_answers: list[int | None] = []
        self._broken_writes = 0
        self._cut_reads = 0
        self._garbled_reads = 0
        self._failing_share = 0.0
        self._lost_answer_share = 0.0
        self.lost_answers = 0
        self._rng = random.Random()
        self.uploads: dict[str, dict[int, bytes]] = {}  # in parts, that are not complete
        self._generations = itertools.count(1_700_000_000_000_000)
        self._server: WebServer | None = None

    @property
    def url(self) -> str:
        """The value for STORAGE_EMULATOR_HOST."""
        assert self._server
        return self._server.url

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/storage/v1/b/{bucket}/o", self._list_json)
        self.add_routes(app.router)
        self._server = await WebServer.start(app)

    async def stop(self) -> None:
        if self._server:
            await self._server.stop()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve all paths, as a part of another server that has routes for some of them."""
        router.add_put("/{name:.+}", self._put)
        router.add_post("/{name:.+}", self._post)
        router.add_get("/{name:.+}", self._get)
        router.add_delete("/{name:.+}", self._delete)

    def fail_next(self, status: int, times: int = 1) -> None:
        """Answer the next requests with an error status."""
        self._next_failures += [status] * times

    def lose_answers(self, status: int | None, times: int = 1) -> None:
        """Carry out the next writes, and answer with an error status; None cuts the connection."""
        self._next_lost_answers += [status] * times

    def break_writes(self, times: int = 1) -> None:
        """Close the connection of the next writes, and carry out none of them."""
        self._broken_writes += times

    def cut_reads(self, times: int = 1) -> None:
        """Close the connection of the next reads after half of their content."""
        self._cut_reads += times

    def garble_reads(self, times: int = 1) -> None:
        """Answer the next reads with another content."""
        self._garbled_reads += times

    def fail_writes(self, share: float, seed: int, lost_answer_share: float = 0.0) -> None:
        """Answer a share of all writes with 403, which clients do not retry.

        Another share is carried out and then answered with 503, or not at all.
        """
        self._failing_share = share
        self._lost_answer_share = lost_answer_share
        self._rng = random.Random(seed)

    def hold_writes(self, name: str | None) -> None:
        """Hold writes of objects whose name contains this text; None releases them."""
        self._held_name = name
        self.holds_write = False

    def count(self, prefix: str) -> int:
        """The number of objects whose name has this prefix."""
        return sum(name.startswith(prefix) for name in self.objects)

    def put(self, name: str, content: bytes, content_type: str = "") -> None:
        """Create or replace an object. Its name begins with that of the bucket."""
        self.objects[name] = StoredObject(
            content, next(self._generations), datetime.now(UTC), content_type
        )

    async def _put(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        content = await request.read()
        self.held_writes += bool(self._held_name and self._held_name in name)
        while self._held_name and self._held_name in name:
            self.holds_write = True
            await asyncio.sleep(0.02)
            if request.transport is None or request.transport.is_closing():
                return web.Response()  # the client has disconnected: discard its write
        if failure := self._failure(request):
            return failure
        if "uploadId" in request.query:
            return self._put_part(request, content)
        present = self.objects.get(name)
        expected = request.headers.get("x-goog-if-generation-match")
        if expected is not None and int(expected) != (present.generation if present else 0):
            return web.Response(status=412, text="<Error><Code>PreconditionFailed</Code></Error>")
        self.writes += 1
        self.repeated_writes += bool(present and present.content == content and "/items/" in name)
        self.put(name, content, request.headers.get("Content-Type", ""))
        if not self._next_lost_answers and self._rng.random() < self._lost_answer_share:
            self._next_lost_answers.append(self._rng.choice([503, None]))
        if self._next_lost_answers:
            status = self._next_lost_answers.pop(0)
            self.lost_answers += 1
            return _close(request) if status is None else web.Response(status=status)
        return web.Response(headers=_headers(self.objects[name]))

    def _put_part(self, request: web.Request, content: bytes) -> web.Response:
        parts = self.uploads.get(request.query["uploadId"])
        if parts is None:
            return web.Response(status=404, text="<Error><Code>NoSuchUpload</Code></Error>")
        parts[int(request.query["partNumber"])] = content
        return web.Response(headers={"ETag": f'"{_md5(content)}"'})

    async def _post(self, request: web.Request) -> web.Response:
        """Begin or complete an upload in parts, which has no condition."""
        name, upload_id = request.match_info["name"], request.query.get("uploadId", "")
        if failure := self._failure(request):
            return failure
        if "uploads" in request.query:
            upload_id = f"{len(self.uploads)}-{request.headers.get('Content-Type', '')}"
            self.uploads[upload_id] = {}
            text = f"<UploadId>{escape(upload_id)}</UploadId>"
            return _xml("InitiateMultipartUploadResult", text)
        parts = self.uploads.get(upload_id)
        if parts is None:
            return web.Response(status=404, text="<Error><Code>NoSuchUpload</Code></Error>")
        if any(len(parts[number]) < _LEAST_PART_BYTES for number in sorted(parts)[:-1]):
            return web.Response(status=400, text="<Error><Code>EntityTooSmall</Code></Error>")
        self.writes += 1
        content = b"".join(parts[number] for number in sorted(parts))
        self.put(name, content, upload_id.partition("-")[2])
        del self.uploads[upload_id]
        return _xml("CompleteMultipartUploadResult", f'<ETag>"{_md5(content)}"</ETag>')

    def _failure(self, request: web.Request) -> web.Response | None:
        """The response to a write that is not carried out."""
        if self._next_failures:
            return web.Response(status=self._next_failures.pop(0))
        if self._broken_writes:
            self._broken_writes -= 1
            return _close(request)
        if self._rng.random() < self._failing_share:
            self.refused += 1
            return web.Response(status=403)
        return web.Response(status=412) if self.always_conflicting else None

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if self._next_failures:
            return web.Response(status=self._next_failures.pop(0))
        if "list-type" in request.query:
            return self._list(request)
        found = self.objects.get(request.match_info["name"])
        if not found:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        headers = _headers(found)
        part = request.http_range
        content = found.content[part]
        if part.start:
            last = part.start + len(content) - 1
            headers["Content-Range"] = f"bytes {part.start}-{last}/{len(found.content)}"
        if self._garbled_reads:
            self._garbled_reads -= 1
            return web.Response(body=b"?" * len(content), headers=headers)
        if self._cut_reads:
            self._cut_reads -= 1
            return await _send_half(request, content, headers)
        return web.Response(status=206 if part.start else 200, body=content, headers=headers)

    async def _delete(self, request: web.Request) -> web.Response:
        if "uploadId" in request.query:
            self.uploads.pop(request.query["uploadId"], None)
            return web.Response(status=204)
        if self._next_failures:
            return web.Response(status=self._next_failures.pop(0))
        found = self.objects.pop(request.match_info["name"], None)
        return web.Response(status=204 if found else 404)

    def page_of(self, bucket: str, query: Mapping[str, str]) -> tuple[list[str], str]:
        """The names in a page of a listing, without the bucket, and the token of the next page.

        `query` has the parameters of the JSON API: prefix, startOffset, endOffset, pageToken.
        """
        names_of_all = self.objects.sorted_names()
        prefix = f"{bucket}/{query.get('prefix', '')}"
        start = max(prefix, f"{bucket}/{query.get('startOffset', '')}")
        end = f"{bucket}/{query['endOffset']}" if query.get("endOffset") else None
        first = bisect.bisect_left(names_of_all, start)
        if token := query.get("pageToken"):
            first = bisect.bisect_right(names_of_all, f"{bucket}/{token}")
        names = []
        for name in itertools.islice(names_of_all, first, first + _PAGE_OBJECTS + 1):
            if not name.startswith(prefix) or (end and name >= end):
                break
            names.append(name.removeprefix(f"{bucket}/"))
        has_more = len(names) > _PAGE_OBJECTS
        return names[:_PAGE_OBJECTS], names[_PAGE_OBJECTS - 1] if has_more else ""

    async def _list_json(self, request: web.Request) -> web.Response:
        self.listings += 1
        if self.listing_seconds:
            await asyncio.sleep(self.listing_seconds)
        if self._next_failures:
            status = self._next_failures.pop(0)
            error = {"error": {"code": status, "message": "an injected fault"}}
            return web.json_response(error, status=status)
        bucket = request.match_info["bucket"]
        names, token = self.page_of(bucket, request.query)
        items = [_described(name, self.objects[f"{bucket}/{name}"]) for name in names]
        return web.json_response({"items": items} | ({"nextPageToken": token} if token else {}))

    def _list(self, request: web.Request) -> web.Response:
        bucket, query = request.match_info["name"].rstrip("/"), request.query
        parameters = {"prefix": query.get("prefix", "")}
        if "continuation-token" in query:
            parameters["pageToken"] = query["continuation-token"]
        names, token = self.page_of(bucket, parameters)
        contents = "".join(_listed(name, self.objects[f"{bucket}/{name}"]) for name in names)
        if token:
            contents += f"<NextContinuationToken>{escape(token)}</NextContinuationToken>"
        return web.Response(
            text=f"<ListBucketResult>{contents}</ListBucketResult>",
            content_type="application/xml",
        )


def _close(request: web.Request) -> web.Response:
    """Close the connection in place of an answer."""
    if request.transport:
        request.transport.abort()
    return web.Response()


async def _send_half(
    request: web.Request, content: bytes, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers | {"Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    _close(request)
    return response


def _described(name: str, stored: StoredObject) -> dict[str, str]:
    """An object as the JSON API lists it."""
    return {
        "name": name,
        "updated": stored.written.isoformat().replace("+00:00", "Z"),
        "generation": str(stored.generation),
        "size": str(len(stored.content)),
    }


def _listed(name: str, stored: StoredObject) -> str:
    return (
        f"<Contents><Key>{escape(name)}</Key><Size>{len(stored.content)}</Size>"
        f"<LastModified>{stored.written.isoformat()}</LastModified>"
        f"<ETag>{escape(_headers(stored)['ETag'])}</ETag></Contents>"
    )


def _xml(element: str, text: str) -> web.Response:
    return web.Response(text=f"<{element}>{text}</{element}>", content_type="application/xml")


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _headers(stored: StoredObject) -> dict[str, str]:
    return {
        "ETag": f'"{_md5(stored.content)}"',
        "x-goog-generation": str(stored.generation),
        "Last-Modified": format_datetime(stored.written, usegmt=True),
    }
