"""Lists the stored objects of a folder or a bucket, from a name on or between two names.

obstore refuses a whole page with a name that it cannot express, such as `items//a.json`. Buckets
are listed with the JSON API instead (https://cloud.google.com/storage/docs/json_api/v1/objects/list),
and such names are left out and remembered.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import quote

import obstore
import requests
from obstore.exceptions import BaseError
from obstore.store import LocalStore
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from operate.console import CommandError, UsageError, count_of, first_line
from operate.installation import OBJECT_SECONDS
from pipeline.store.objects import open_storage
from pipeline.store.settings import StorageSettings

_GOOGLE = "https://storage.googleapis.com"
_PAGE_OBJECTS = 1000
_FIELDS = "nextPageToken,items(name,updated,generation,size)"
# 0, 1, 2, 4 and 8 seconds, as https://cloud.google.com/storage/docs/retry-strategy asks for.
_RETRIES = Retry(
    total=5,
    connect=2,
    backoff_factor=0.5,
    status_forcelist=(408, 429, 500, 502, 503, 504),
    raise_on_status=False,
)
# As object_store's Path: no empty, `.` or `..` segment, no control character.
_ODD = re.compile(r"(?:^|/)(?:\.{0,2})(?:/|$)|[\x00-\x1f\x7f]")


class ListingError(Exception):
    """The objects cannot be listed; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object. `version` changes with each write."""

    name: str
    written_at: datetime
    version: tuple[object, ...]


class ObjectListing:
    """The objects below one storage URL. `odd_names` are those that were left out so far."""

    def __init__(self, settings: StorageSettings) -> None:
        self.odd_names: set[str] = set()
        self._settings = settings
        self._session = requests.Session()
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=_RETRIES))
        self._token = ""
        self._token_expires_at: datetime | None = None

    @property
    def is_sorted(self) -> bool:
        """Whether pages come in the order of the names, and begin where they are asked to."""
        return not self._settings.url.startswith("file://")

    def pages(self, prefix: str, start: str = "", end: str = "") -> Iterator[list[Listed]]:
        """The objects with a prefix such as `items/`, from the name `start` to before `end`.

        Raises:
            ListingError: they cannot be listed.
        """
        if not self.is_sorted:
            yield from self._folder_pages(prefix, start, end)
            return
        bucket, _, base = self._settings.url.removeprefix("gs://").partition("/")
        base = f"{base}/" if base else ""
        query = {
            "prefix": f"{base}{prefix}",
            "startOffset": f"{base}{start}" if start else "",
            "endOffset": f"{base}{end}" if end else "",
            "maxResults": str(_PAGE_OBJECTS),
            "fields": _FIELDS,
        }
        token = ""
        while True:
            page = self._get(bucket, {k: v for k, v in (query | {"pageToken": token}).items() if v})
            yield [
                Listed(
                    name,
                    datetime.fromisoformat(each["updated"]),
                    (each["generation"], each["updated"], each["size"]),
                )
                for each in page.get("items", ())
                if self._is_usable(name := str(each["name"]).removeprefix(base))
            ]
            token = page.get("nextPageToken", "")
            if not token:
                return

    def names(self, prefix: str, since: datetime | None = None) -> list[str]:
        """The names of the objects with a prefix that were written since a time, or of all.

        Raises:
            ListingError: they cannot be listed.
        """
        return [
            each.name
            for page in self.pages(prefix)
            for each in page
            if since is None or each.written_at >= since
        ]

    def describe_odd_names(self) -> str:
        """A sentence about what was left out; empty if nothing was."""
        if not self.odd_names:
            return ""
        first = min(self.odd_names)
        count = count_of(len(self.odd_names), "object")
        return f"{count} left out, whose name cannot be read, such as {first!r}"

    def _folder_pages(self, prefix: str, start: str, end: str) -> Iterator[list[Listed]]:
        try:
            storage = open_storage(self._settings)
            for page in obstore.list(cast(LocalStore, storage), prefix.rstrip("/")):
                yield [
                    Listed(
                        meta["path"],
                        meta["last_modified"],
                        (meta["e_tag"], meta["last_modified"], meta["size"]),
                    )
                    for meta in page
                    if meta["path"] >= start and (not end or meta["path"] < end)
                ]
        except (BaseError, OSError) as error:
            raise ListingError(first_line(error)) from error

    def _is_usable(self, name: str) -> bool:
        if _ODD.search(name):
            self.odd_names.add(name)
            return False
        return True

    def _get(self, bucket: str, query: dict[str, str]) -> dict[str, Any]:
        base = self._settings.emulator_url or _GOOGLE
        try:
            response = self._session.get(
                f"{base}/storage/v1/b/{quote(bucket, safe='')}/o",
                params=query,
                headers={"Authorization": f"Bearer {self._access_token()}"},
                timeout=OBJECT_SECONDS,
            )
            if response.status_code != 200:
                raise ListingError(f"{response.status_code} {_message_of(response)}")
            page: dict[str, Any] = response.json()
        except (CommandError, UsageError) as error:  # of the credential
            raise ListingError(str(error)) from error
        except (OSError, ValueError) as error:
            raise ListingError(f"{base}: {type(error).__name__}") from error
        return page

    def _access_token(self) -> str:
        provider = self._settings.credential
        if provider is None:
            return "emulator"
        if self._token_expires_at is None or datetime.now(UTC) >= self._token_expires_at:
            credential = cast(dict[str, Any], provider())
            self._token = str(credential["token"])
            self._token_expires_at = credential["expires_at"]
        return self._token


def _message_of(response: requests.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return response.reason
