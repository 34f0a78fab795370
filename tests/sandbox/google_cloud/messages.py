"""The messages of a Pub/Sub subscription."""

import base64
import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sandbox.google_cloud.errors import Json
from sandbox.google_cloud.resources import now

_ids = itertools.count(10_000_000_000_000_001)


def new_message(data: bytes, attributes: Mapping[str, str], encoded: str = "") -> Json:
    """A message with the next id; `encoded` is data that is in base64 already."""
    return {
        "messageId": str(next(_ids)),
        "publishTime": now(),
        "attributes": dict(attributes),
        "data": encoded or base64.b64encode(data).decode(),
    }


@dataclass
class _Held:
    message: Json
    ack_id: str
    leased_until: float = 0.0
    attempts: int = 0


class Queue:
    """The messages that are not acknowledged, oldest first. A pulled one is leased for a while."""

    def __init__(self) -> None:
        self._held: list[_Held] = []

    @property
    def messages(self) -> list[Json]:
        return [held.message for held in self._held]

    def add(self, message: Json) -> None:
        self._held.append(_Held(message, f"ack-{message['messageId']}"))

    def pull(self, limit: int, lease_seconds: float) -> list[Json]:
        """Lease at most `limit` messages."""
        clock = time.monotonic()
        pulled = [held for held in self._held if held.leased_until <= clock][:limit]
        for held in pulled:
            held.leased_until = clock + lease_seconds
            held.attempts += 1
        return [
            {"ackId": held.ack_id, "message": held.message, "deliveryAttempt": held.attempts}
            for held in pulled
        ]

    def lease(self, ack_ids: Iterable[str], seconds: float) -> None:
        """Lease messages from now on; a lease of 0 s makes them visible again."""
        chosen = set(ack_ids)
        for held in self._held:
            if held.ack_id in chosen:
                held.leased_until = time.monotonic() + seconds

    def acknowledge(self, ack_ids: Iterable[str]) -> None:
        chosen = set(ack_ids)
        self._held = [held for held in self._held if held.ack_id not in chosen]
