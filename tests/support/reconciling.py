"""Runs `reconcile` with an API and a storage folder of its own."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi
from sandbox.functions import Function

RNG = random.Random()


class RunningReconcile:
    """A running `reconcile`, the API that it calls, and the folder that it writes to."""

    def __init__(self, function: Function, api: DimmyApi, folder: Path) -> None:
        self.function = function
        self.api = api
        self.folder = folder

    def request(self, **window: str) -> tuple[int, dict[str, Any]]:
        response = requests.post(self.function.url, params=window, timeout=60)
        return response.status_code, response.json()

    def put(self, day: int, hour: int = 8, count: int = 1) -> list[str]:
        """Add items to the API, created 0.1 s apart in January 2026; return their ids."""
        first = datetime(2026, 1, day, hour, tzinfo=UTC)
        return [self.put_at(first + timedelta(milliseconds=100 * n)) for n in range(count)]

    def put_at(self, created_at: datetime) -> str:
        """Add an item to the API, created at this time; return its id."""
        created = created_at.astimezone(UTC).replace(tzinfo=None).isoformat()
        return self.api.put(catalogue.make_item(RNG) | {"created_at": created})

    def stored(self) -> dict[str, bytes]:
        return {path.stem: path.read_bytes() for path in (self.folder / "items").glob("*.json")}

    def store(self, item_ids: list[str]) -> None:
        (self.folder / "items").mkdir(exist_ok=True)
        for item_id in item_ids:
            (self.folder / "items" / f"{item_id}.json").write_bytes(self.api.body_of(item_id))

    def checkpoints(self) -> dict[str, Any]:
        return {
            path.stem: json.loads(path.read_bytes())
            for path in (self.folder / "reconcile").glob("*.json")
        }


def start_reconcile(api: DimmyApi, folder: Path, **changes: str) -> Function:
    """Start `reconcile` with this API and storage folder, and wait until it answers."""
    function = Function(
        "reconcile",
        {
            "STORAGE_URL": f"file://{folder}",
            "DIMMY_API_URL": api.url,
            "DIMMY_API_KEY": api.key,
            "DIMMY_TIMEOUT_SECONDS": "2",
        }
        | changes,
    )
    function.wait_until_up()
    return function
