"""The scans of the sandbox's own Dimmy API in a `make run`, which outlive a restart.

An event that waits is worth nothing if the API no longer knows its items.
"""

import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from operate.console import UsageError
from operate.ports import is_free
from sandbox import catalogue
from sandbox.catalogue import Item
from sandbox.dimmy_api import DimmyApi
from sandbox.processes import free_port
from sandbox.stack import SANDBOX_API_KEY

_EARLIER_ITEMS = 40
_EARLIER_DAYS = 10


class SampleScans:
    """A file: the URL of the API in its first line, and an item in each of the others.

    `api` has the items of the last time or, the first time, some earlier ones; it is not started.
    It has the same port every time, because the addresses of photos contain it.

    Raises:
        UsageError: the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "sandbox-api.jsonl"
        self._rng = random.Random()
        try:
            self.api, known = self._read()
        except ValueError as error:
            raise UsageError(f"{self._path} is damaged, delete it: {error}") from error
        self._write(known or _earlier_items(self.api))

    def _read(self) -> tuple[DimmyApi, list[Item]]:
        """The API on the port of the last time, if that is free, and the items."""
        if not self._path.exists():
            return DimmyApi(SANDBOX_API_KEY, port=free_port()), []
        # A last line without its end was being written when the run was killed.
        url, *lines = self._path.read_text("utf-8").split("\n")[:-1]
        port = int(url.rpartition(":")[2])
        api = DimmyApi(SANDBOX_API_KEY, port=port if is_free(port) else free_port())
        # The addresses of photos begin with that of the API.
        return api, [json.loads(line.replace(url, api.url)) for line in lines]

    def add(self) -> str:
        """Add a new item; return its id."""
        item = catalogue.make_item(self._rng, photo_url_prefix=self.api.photo_url_prefix)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
        return self.api.put(item)

    def _write(self, items: list[Item]) -> None:
        lines = [self.api.url, *(json.dumps(item, ensure_ascii=False) for item in items)]
        unfinished = self._path.with_suffix(".new")
        with unfinished.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._path)
        for item in items:
            self.api.put(item)


def _earlier_items(api: DimmyApi) -> list[Item]:
    """Items without a webhook, for `make backfill`."""
    rng = random.Random(1)
    now = datetime.now(UTC).replace(tzinfo=None)
    items = []
    for _ in range(_EARLIER_ITEMS):
        created = (now - timedelta(days=rng.uniform(0, _EARLIER_DAYS))).isoformat()
        item = catalogue.make_item(rng, photo_url_prefix=api.photo_url_prefix)
        items.append(item | {"created_at": created, "updated_at": created})
    return items
