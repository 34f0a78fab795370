"""Dimmy's REST API: items by id and by time, over pooled connections, with patience.

`GET /items/{id}` and `GET /items` with `X-API-KEY`; errors are FastAPI's `{"detail": ...}`. Rate
limits are not documented, so a 429 is expected at any time, with or without Retry-After.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import TypeVar
from urllib.parse import urlencode

import requests
import requests.utils
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError

from budget import Budget
from items import Item, NotAnItemError, NotJsonError, read_item, read_items, read_json
from settings import FetchSettings

T = TypeVar("T")

MAX_ITEM_BYTES = 32 * 1024 * 1024
CONNECT_SECONDS = 5.0

_ANSWERS = {200, 404}  # of an API that is up and knows us
_TRIES = 4
_REASON_CHARACTERS = 200
_LONGEST_CALM_SECONDS = 600.0
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class DimmyError(Exception):
    """The item could not be had. The text is the reason, short enough for a receipt."""


class ApiKeyRejectedError(DimmyError):
    """401: no item can be had with this key."""


class NotFoundError(DimmyError):
    """404: the API does not know it."""


class TooLargeError(DimmyError):
    """The response is larger than what we read."""


class _PassingError(DimmyError):
    """Worth another try in a moment. `after` is what Retry-After asked for, in seconds."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(reason)


class _RateLimitedError(_PassingError):
    """429: the API wants less of everyone."""


class DimmyClient:
    """Fetches items. Safe to share between threads: that is how its limits hold for a process."""

    def __init__(self, settings: FetchSettings) -> None:
        self._items_url = f"{settings.api_url}/items"
        self._api_key = settings.api_key
        self._timeout = settings.timeout_seconds
        self._under_way = threading.BoundedSemaphore(settings.concurrency)
        self._calm_lock = threading.Lock()
        self._calm_from = 0.0  # monotonic; no request begins before it
        self._session = _open_session(settings)
        # Prepared once: each request differs from it in nothing but its URL, which is ours to the
        # last character.
        self._request = self._session.prepare_request(requests.Request("GET", self._items_url))

    def fetch_item(self, item_id: str, budget: Budget) -> Item:
        """The item, after a few tries if need be, within the budget.

        `item_id` must have the form of an id (`items.is_item_id`): it becomes part of a URL.

        Raises:
            ApiKeyRejectedError: the key is not accepted.
            DimmyError: the item cannot be had now.
        """

        def read_this_item(body: bytes) -> Item:
            item = read_item(body)
            if item.item_id != item_id:
                raise DimmyError("200, but another item was returned")
            return item

        return self._fetch(f"{self._items_url}/{item_id}", read_this_item, budget)

    def list_items(
        self, start: datetime, end: datetime, skip: int, limit: int, budget: Budget
    ) -> list[Item | NotAnItemError]:
        """A page of the items created from `start` to `end`; an empty list beyond the last one.

        The API filters by times without a zone, which are UTC, and answers 404 where nothing is.

        Raises:
            ApiKeyRejectedError: the key is not accepted.
            TooLargeError: the page is larger than what we read; ask for fewer items.
            DimmyError: the page cannot be had now.
        """
        query = urlencode(
            {
                "start_date": _without_zone(start),
                "end_date": _without_zone(end),
                "skip": skip,
                "limit": limit,
            }
        )
        try:
            return self._fetch(f"{self._items_url}?{query}", read_items, budget)
        except NotFoundError:
            return []

    def _fetch(self, url: str, read: Callable[[bytes], T], budget: Budget) -> T:
        tries = 0
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return self._fetch_once(url, read, budget)
            except _PassingError as error:
                # What the API asks us to wait for is no failure of a try.
                tries += not isinstance(error, _RateLimitedError)
                wait = max(error.after or 0.0, pause * random.uniform(0.5, 1.0))
                if isinstance(error, _RateLimitedError):
                    self._calm_for(wait)
                if tries == _TRIES or not budget.allows(wait):
                    raise
                if not isinstance(error, _RateLimitedError):
                    budget.sleep(wait)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _fetch_once(self, url: str, read: Callable[[bytes], T], budget: Budget) -> T:
        with self._under_way:
            self._wait_for_calm(budget)
            timeout = min(self._timeout, budget.remaining)
            if timeout <= 0:
                raise DimmyError(f"not tried: {budget.why_over}")
            started = time.monotonic()
            failed = True
            try:
                request = self._request.copy()
                request.url = url
                with self._session.send(
                    request,
                    timeout=(min(CONNECT_SECONDS, timeout), timeout),
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    body = _read_body(response, time.monotonic() + timeout)
                failed = response.status_code not in _ANSWERS
            except (requests.Timeout, ReadTimeoutError):
                raise _PassingError("timeout") from None
            except (requests.RequestException, HTTPError) as error:
                raise _PassingError(f"connection failed: {type(error).__name__}") from error
            finally:
                budget.note_request(time.monotonic() - started, failed=failed)
        self._raise_for_status(response, body)
        try:
            return read(body)
        except (NotJsonError, NotAnItemError) as error:
            raise _PassingError(f"200, but {str(error)[:100]}") from error

    def _calm_for(self, seconds: float) -> None:
        """Let no request of the process begin for a while."""
        calm_from = time.monotonic() + min(seconds, _LONGEST_CALM_SECONDS)
        with self._calm_lock:
            self._calm_from = max(self._calm_from, calm_from)

    def _wait_for_calm(self, budget: Budget) -> None:
        """Until the API's last request for a pause is over. Whoever waits keeps its place."""
        while (wait := self._calm_from - time.monotonic()) > 0:
            if not budget.allows(wait):
                raise DimmyError("429: the API asked for a longer pause than this attempt has left")
            budget.sleep(wait)

    def _raise_for_status(self, response: requests.Response, body: bytes) -> None:
        status = response.status_code
        if status == 200:
            return
        said = _detail(body) or response.reason or "no reason given"
        # The key is taken out first, should the API ever echo it: cut short it would not be found.
        reason = f"{status}: {said.replace(self._api_key, '***')[:_REASON_CHARACTERS]}"
        if status == 401:
            raise ApiKeyRejectedError(reason)
        if status == 404:
            raise NotFoundError(reason)
        if status == 429:
            raise _RateLimitedError(reason, _retry_after(response))
        if status >= 500 or status == 408:
            raise _PassingError(reason, _retry_after(response))
        raise DimmyError(reason)


class _Session(requests.Session):
    """Knows no redirects.

    `allow_redirects=False` is not enough: requests looks where the redirect would lead all the
    same, and reads the body for it, without our bounds.
    """

    def get_redirect_target(self, _: requests.Response) -> str | None:
        return None


def _open_session(settings: FetchSettings) -> requests.Session:
    session = _Session()
    # The environment is read once, not before every request; .netrc never replaces the key.
    session.proxies = requests.utils.get_environ_proxies(settings.api_url)
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    session.trust_env = False
    session.headers["X-API-KEY"] = settings.api_key
    session.headers["Accept"] = "application/json"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=settings.concurrency)
    session.mount(settings.api_url, adapter)
    return session


def _read_body(response: requests.Response, deadline: float) -> bytes:
    """The body, bounded in size and in time: a server that trickles keeps no thread for long."""
    chunks = []
    size = 0
    # read1 returns what has come; iter_content would wait for a whole chunk to come together.
    while chunk := response.raw.read1(64 * 1024, decode_content=True):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ITEM_BYTES:
            raise TooLargeError(f"the response is over {MAX_ITEM_BYTES} bytes")
        if time.monotonic() > deadline:
            raise _PassingError("timeout")
    return b"".join(chunks)


def _detail(body: bytes) -> str:
    """FastAPI's detail."""
    try:
        detail = read_json(body)["detail"]
    except (NotJsonError, TypeError, LookupError):
        return ""
    return str(detail)


def _without_zone(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat()


def _retry_after(response: requests.Response) -> float | None:
    """Retry-After in seconds; it comes as a number or as a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
