"""Starts `resolve` and pushes events to it, as Pub/Sub does."""

import base64
import json
import random
from pathlib import Path
from typing import Any

import requests

from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi
from sandbox.functions import Function
from sandbox.svix_sender import new_message_id

RNG = random.Random()


class RunningResolve:
    """A running `resolve`, with its API and its storage folder."""

    def __init__(self, function: Function, api: DimmyApi, folder: Path) -> None:
        self.function = function
        self.api = api
        self.folder = folder

    def push(self, envelope: object) -> requests.Response:
        body = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
        return requests.post(self.function.url, data=body, timeout=300)

    def deliver(
        self,
        content: object,
        event_id: str | None = None,
        attempt: int | None = 1,
        delivery: int = 1,
    ) -> tuple[int, dict[str, Any]]:
        """Push an event; return the status and the receipt."""
        event_id = event_id or new_message_id()
        response = self.push(envelope(content, event_id, attempt, delivery))
        return response.status_code, self.receipt(event_id)

    def receipt(self, event_id: str) -> dict[str, Any]:
        receipt: dict[str, Any] = json.loads(self.read(f"events/{event_id}.json") or b"{}")
        return receipt

    def read(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.exists() else None

    def put_item(self) -> str:
        return self.api.put(catalogue.make_item(RNG))


def envelope(
    content: object, event_id: str, attempt: int | None = 1, delivery: int = 1, **attributes: str
) -> dict[str, Any]:
    """A push envelope. `delivery` counts the sender's deliveries, `attempt` those of Pub/Sub."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    standard = {"svix-id": event_id, "received-at": f"2026-11-01T08:00:00.{delivery:06}Z"}
    message = {
        "messageId": str(delivery),
        "publishTime": "2026-11-01T08:00:00.1Z",
        "attributes": standard | attributes,
        "data": base64.b64encode(body).decode(),
    }
    pushed = {"subscription": "projects/p/subscriptions/s", "message": message}
    return pushed if attempt is None else pushed | {"deliveryAttempt": attempt}


def start_resolve(
    api: DimmyApi, folder: Path, *, signature_type: str = "http", **changes: str
) -> Function:
    """Start `resolve` with this API and storage folder, and wait until it answers."""
    function = Function(
        "resolve",
        {
            "STORAGE_URL": f"file://{folder}",
            "DIMMY_API_URL": api.url,
            "DIMMY_API_KEY": api.key,
            "DIMMY_TIMEOUT_SECONDS": "2",
            "LOG_LEVEL": "DEBUG",
        }
        | changes,
        signature_type=signature_type,
    )
    function.wait_until_up()
    return function
