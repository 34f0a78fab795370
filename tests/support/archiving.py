"""Starts `archive` and pushes items to it, as Pub/Sub does."""

import base64
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from pipeline.archive.photos import is_name, name_of
from pipeline.items_topic.item_message import describe
from pipeline.store.items import read_item
from sandbox import catalogue
from sandbox.catalogue import Item
from sandbox.dimmy_api import DimmyApi
from sandbox.functions import Function
from support.waiting import wait_for

RNG = random.Random()


class RunningArchive:
    """A running `archive`, with the server of its photos and its storage folder."""

    def __init__(self, function: Function, api: DimmyApi, folder: Path) -> None:
        self.function = function
        self.api = api
        self.photos = api.photos
        self.folder = folder

    def push(self, envelope: object) -> requests.Response:
        body = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
        return requests.post(self.function.url, data=body, timeout=300)

    def deliver(self, item: Item, attempt: int | None = 1) -> tuple[int, dict[str, Any]]:
        """Push an item; return the status and the fields of the attempt's log line."""
        before = len(self.attempts_at(item))
        response = self.push(envelope(message_of(item), attempt))
        lines = wait_for(lambda: self.attempts_at(item)[before:], "the line of the attempt")
        return response.status_code, lines[-1]

    def attempts_at(self, item: Item) -> list[dict[str, Any]]:
        """The log lines of the attempts at an item, one for each."""
        return [line for line in self.lines_of(item) if line["message"].startswith("photos ")]

    def lines_of(self, item: Item) -> list[dict[str, Any]]:
        """The log lines that name an item."""
        lines = (json.loads(line) for line in self.function.lines if line.startswith("{"))
        return [line for line in lines if line.get("item_id") == item["_id"]]

    def state_of(self, item: Item, name: str) -> str:
        """The latest state of a photo that Dimmy serves under this name."""
        stored_name = name_of(self.api.photo_url_prefix + name)
        states = [line["state"] for line in self.lines_of(item) if line.get("photo") == stored_name]
        return str(states[-1])

    def stored(self, item: Item) -> dict[str, bytes]:
        """The stored photos of an item, by their names in storage."""
        folder = self.folder / "photos" / item["_id"]
        paths = [path for path in folder.glob("*") if is_name(path.name)]  # not one in the making
        return {path.name: path.read_bytes() for path in paths}

    def item_with(self, *names: str) -> Item:
        """An item with photos that Dimmy serves under these names."""
        return item_with(*(self.api.photo_url_prefix + name for name in names))

    def photos_of(self, *names: str) -> dict[str, bytes]:
        """What has to be stored of the photos that Dimmy serves under these names."""
        prefix = self.api.photo_url_prefix
        return {name_of(prefix + name): self.photos.content_of(name) for name in names}


def item_with(*addresses: object) -> Item:
    """An item with photos at these addresses."""
    item = catalogue.make_item(RNG, photos=0)
    step = {"flow_step_id": "photos", "photos": [{"url": address} for address in addresses]}
    return item | {"photographing": [step]}


def message_of(item: Item, /, **changes: object) -> dict[str, Any]:
    """The message by which the items topic announces an item."""
    message: dict[str, Any] = json.loads(describe(read_item(json.dumps(item).encode())).data())
    return message | changes


def envelope(message: Mapping[str, Any] | bytes, attempt: int | None = 1) -> dict[str, Any]:
    """A push envelope. `attempt` counts those of Pub/Sub."""
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    pushed = {
        "subscription": "projects/p/subscriptions/dimmy-archive",
        "message": {"messageId": "1", "data": base64.b64encode(data).decode()},
    }
    return pushed if attempt is None else pushed | {"deliveryAttempt": attempt}


def start_archive(api: DimmyApi, folder: Path, **changes: str) -> Function:
    """Start `archive` with the photos of this API and this folder; wait until it answers."""
    settings = {"STORAGE_URL": f"file://{folder}", "PHOTO_HOSTS": api.url, "LOG_LEVEL": "DEBUG"}
    function = Function("archive", settings | changes)
    function.wait_until_up()
    return function
