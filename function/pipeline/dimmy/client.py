"""Fetches items from Dimmy's REST API: pooled connections, bounded concurrency, retries.

`GET /items/{id}` and `GET /items` with `X-API-KEY`; errors are FastAPI's `{"detail": ...}`. Rate
limits are not documented, so a 429 is expected at any time, with or without Retry-After.
"""

import io
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from pipeline.deadline import Deadline
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.dimmy.settings import DimmySettings
from pipeline.http_client.connections import DeadlineAdapter, response_deadline
from pipeline.http_client.network import open_session
from pipeline.json_text import (
    NotJsonError,
    TooDeepError,
    read_json,
    turn_to_decode,
    without_byte_order_mark,
)
from pipeline.store.items import Item, MalformedItem, NotAnItemError, read_item, read_items

T = TypeVar("T")

MAX_RESPONSE_BYTES = 32 * 1024 * 1024
SMALL_ITEM_BYTES = 1024 * 1024
CONNECT_SECONDS = 5.0

_EXPECTED_STATUSES = {200, 404}  # of an API that is up and accepts the key
_TRIES = 4
_REASON_CHARACTERS = 200
_ROUTE_UNKNOWN = "404: Not Found"
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_LONGEST_RATE_LIMIT_SECONDS = 600.0


class DimmyError(Exception):
    """The request failed. The text is the reason, short enough for a receipt."""


class ApiKeyRejectedError(DimmyError):
    """401: every request with this key fails."""


class NotFoundError(DimmyError):
    """404 with the API's own reason: it does not know the item, or has none in the window."""


class NoItemsError(DimmyError):
    """The API answers like one that has no such route, and lists no item at all."""


class UnreadableError(DimmyError):
    """The response is larger than MAX_RESPONSE_BYTES, or nested too deeply."""


class TransientError(DimmyError):
    """Another try may succeed. `retry_after` is what the API asked for, in seconds."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(reason)


class RateLimitedError(TransientError):
    """429: applies to all requests of the process."""


class LargeItemError(Exception):
    """The response is larger than SMALL_ITEM_BYTES, and its caller has no room for it."""


class ItemQuery(NamedTuple):
    """At most `limit` of the items created from `start` to `end`, after the first `skip`."""

    start: datetime
    end: datetime
    skip: int
    limit: int


class DimmyClient:
    """Fetches items. Share one between all threads: its limits are those of the process."""

    def __init__(self, settings: DimmySettings) -> None:
        self._items_url = f"{settings.api_url}/items"
        self._api_key = settings.api_key
        self._timeout = settings.timeout_seconds
        self._slots = threading.BoundedSemaphore(settings.concurrency)
        self._rate_limit_lock = threading.Lock()
        self._rate_limited_until = 0.0  # monotonic; no request begins before it
        self._session = _open_session(settings)
        # Prepared once and copied: requests differ in nothing but their URL, whose every part has
        # been checked.
        self._request = self._session.prepare_request(requests.Request("GET", self._items_url))

    def fetch_item(
        self,
        item_id: str,
        deadline: Deadline,
        statistics: RequestStatistics,
        *,
        has_room: bool = True,
    ) -> Item:
        """The item. Transient failures are retried.

        `item_id` becomes part of a URL, so it must have passed `is_item_id`. `has_room`: the item
        may be as large as MAX_RESPONSE_BYTES.

        Raises:
            ApiKeyRejectedError: the key is not accepted.
            LargeItemError: the item is large, and there is no room for it.
            DimmyError: the item cannot be fetched now.
        """

        def read_this_item(body: bytes) -> Item:
            item = read_item(body)
            if item.item_id != item_id:
                raise DimmyError("200, but another item was returned")
            return item

        url = f"{self._items_url}/{item_id}"
        return self._fetch(url, read_this_item, deadline, statistics, has_room=has_room)

    def list_items(
        self, query: ItemQuery, deadline: Deadline, statistics: RequestStatistics
    ) -> list[Item | MalformedItem]:
        """A page of items; empty beyond the last one.

        The API takes times without a zone, which are UTC, and answers 404 where there are no items.

        Raises:
            ApiKeyRejectedError: the key is not accepted.
            NoItemsError: there may be no such route, so the page says nothing.
            UnreadableError: the page cannot be read; ask for fewer items.
            DimmyError: the page cannot be fetched now.
        """
        parameters = {
            "start_date": _without_zone(query.start),
            "end_date": _without_zone(query.end),
            "skip": query.skip,
            "limit": query.limit,
        }
        try:
            return self._list(parameters, deadline, statistics)
        except NotFoundError as error:
            self.check_route(error, deadline, statistics)
            return []

    def check_route(
        self, error: NotFoundError, deadline: Deadline, statistics: RequestStatistics
    ) -> None:
        """Return if the API knows the route that it has answered this for.

        FastAPI answers `Not Found` where it has no such route, and another program may answer so.

        Raises:
            NoItemsError: there may be no such route, so the answer says nothing.
            DimmyError: as `list_items`.
        """
        if str(error) == _ROUTE_UNKNOWN and not self.has_items(deadline, statistics):
            raise NoItemsError(f"{error}, and no item is listed at all") from error

    def has_items(self, deadline: Deadline, statistics: RequestStatistics) -> bool:
        """Whether the API lists any item at all.

        Where it does not, an empty page says nothing: another program may answer at its address.

        Raises:
            DimmyError: as `list_items`.
        """
        try:
            return bool(self._list({"limit": 1}, deadline, statistics))
        except UnreadableError:
            return True
        except NotFoundError:
            return False

    def _list(
        self, parameters: dict[str, Any], deadline: Deadline, statistics: RequestStatistics
    ) -> list[Item | MalformedItem]:
        url = f"{self._items_url}?{urlencode(parameters)}"
        return self._fetch(url, read_items, deadline, statistics)

    def _fetch(
        self,
        url: str,
        read: Callable[[bytes], T],
        deadline: Deadline,
        statistics: RequestStatistics,
        *,
        has_room: bool = True,
    ) -> T:
        tries = 0
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return self._fetch_once(url, read, deadline, statistics, has_room=has_room)
            except TransientError as error:
                is_rate_limit = isinstance(error, RateLimitedError)
                # Waiting because the API asked for it does not use up a try.
                tries += not is_rate_limit
                wait = max(error.retry_after or 0.0, pause * random.uniform(0.5, 1.0))
                if is_rate_limit:
                    self._hold_requests(wait)
                if tries == _TRIES or not deadline.allows(wait):
                    raise
                if not is_rate_limit:
                    deadline.sleep(wait)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _fetch_once(
        self,
        url: str,
        read: Callable[[bytes], T],
        deadline: Deadline,
        statistics: RequestStatistics,
        *,
        has_room: bool,
    ) -> T:
        with self._slots:
            self._wait_for_rate_limit(deadline)
            timeout = min(self._timeout, deadline.remaining)
            if timeout <= 0:
                raise DimmyError(f"not tried: {deadline.reason}")
            started = time.monotonic()
            end = started + timeout
            failed = True
            try:
                request = self._request.copy()
                request.url = url
                with (
                    response_deadline(end),
                    self._session.send(
                        request,
                        timeout=(min(CONNECT_SECONDS, timeout), timeout),
                        allow_redirects=False,
                        stream=True,
                    ) as response,
                ):
                    body = _read_body(response, end, has_room=has_room)
                failed = response.status_code not in _EXPECTED_STATUSES
            except LargeItemError:
                failed = False
                raise
            except (requests.Timeout, ReadTimeoutError, TimeoutError):
                raise TransientError("timeout") from None
            except (requests.RequestException, HTTPError) as error:
                if time.monotonic() >= end:
                    raise TransientError("timeout") from None
                raise TransientError(f"connection failed: {type(error).__name__}") from error
            except OSError as error:  # requests', where its file of certificates has gone
                raise DimmyError(f"environment: {error}") from error
            finally:
                statistics.add(time.monotonic() - started, failed=failed)
        self._raise_for_status(response, body)
        try:
            with turn_to_decode(body):
                return read(body)
        except TooDeepError as error:
            raise UnreadableError(f"200, but {error}") from error
        except (NotJsonError, NotAnItemError) as error:
            raise TransientError(f"200, but {str(error)[:100]}") from error

    def _hold_requests(self, seconds: float) -> None:
        """Start no request of the process for this many seconds."""
        until = time.monotonic() + min(seconds, _LONGEST_RATE_LIMIT_SECONDS)
        with self._rate_limit_lock:
            self._rate_limited_until = max(self._rate_limited_until, until)

    def _wait_for_rate_limit(self, deadline: Deadline) -> None:
        """Wait until requests may begin. A waiting request keeps its concurrency slot."""
        while (wait := self._rate_limited_until - time.monotonic()) > 0:
            if not deadline.allows(wait):
                raise DimmyError("429: the API asked for a longer pause than this attempt has left")
            deadline.sleep(wait)

    def _raise_for_status(self, response: requests.Response, body: bytes) -> None:
        status = response.status_code
        if status == 200:
            return
        api_detail = _detail(body)
        detail = api_detail or response.reason or "no reason given"
        # An API may echo the key. It is removed first, because a part of it would not be found.
        reason = f"{status}: {detail.replace(self._api_key, '***')[:_REASON_CHARACTERS]}"
        if status == 401:
            raise ApiKeyRejectedError(reason)
        if status == 404:
            if not api_detail:
                raise DimmyError("404, but not from Dimmy's API (is DIMMY_API_URL right?)")
            raise NotFoundError(reason)
        if status == 429:
            raise RateLimitedError(reason, _retry_after(response))
        if status >= 500 or status == 408:
            raise TransientError(reason, _retry_after(response))
        raise DimmyError(reason)


def _open_session(settings: DimmySettings) -> requests.Session:
    session = open_session()
    session.proxies = dict(settings.network.proxies)
    session.verify = settings.network.ca_bundle or True
    session.headers["X-API-KEY"] = settings.api_key
    session.headers["Accept"] = "application/json"
    adapter = DeadlineAdapter(pool_connections=1, pool_maxsize=settings.concurrency)
    session.mount(settings.api_url, adapter)
    return session


def _read_body(response: requests.Response, deadline: float, *, has_room: bool) -> bytes:
    """The body, bounded in size and in time, also where a server sends it byte by byte."""
    body = io.BytesIO()  # which needs no copy of all chunks at the end
    # read1 returns what has arrived; iter_content would wait until a chunk is complete.
    while chunk := response.raw.read1(64 * 1024, decode_content=True):
        body.write(chunk)
        if not has_room and body.tell() > SMALL_ITEM_BYTES:
            raise LargeItemError
        if body.tell() > MAX_RESPONSE_BYTES:
            raise UnreadableError(f"the response is over {MAX_RESPONSE_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TransientError("timeout")
    return without_byte_order_mark(body.getvalue())


def _detail(body: bytes) -> str:
    """The `detail` of a FastAPI error, or nothing."""
    try:
        detail = read_json(body)["detail"]
    except (NotJsonError, TypeError, LookupError):
        return ""
    return str(detail)


def _without_zone(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat()


def _retry_after(response: requests.Response) -> float | None:
    """Retry-After in seconds; it is a number or a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
