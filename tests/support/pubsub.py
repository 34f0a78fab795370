"""Pub/Sub for tests: both kinds of it, a topic with a look at what is published, a slow server."""

import asyncio
from typing import Any

import pytest

from sandbox.pubsub import PubSub
from sandbox.pubsub_admin import PubSubAdmin, Pulled
from support.programs import needs
from support.waiting import wait_for

# A group stays on one worker, so that each Pub/Sub, and above all Google's, is started once.
BOTH_PUBSUBS = [
    pytest.param("own", marks=pytest.mark.xdist_group("own")),
    pytest.param("google", marks=[pytest.mark.xdist_group("google"), needs("pubsub-emulator")]),
]


class Outlet:
    """A topic on our own Pub/Sub, and what is published to it."""

    def __init__(self, admin: PubSubAdmin) -> None:
        self._admin = admin
        self.host = admin.host
        self.topic = admin.create_topic("outlet")
        admin.create_subscription("outlet", "outlet")

    def published_until(self, event_id: str) -> list[Pulled]:
        """Everything published since the last call, up to an event that will arrive, without it."""
        found: list[Pulled] = []

        def has_arrived() -> bool:
            pulled = self._admin.pull("outlet")
            self._admin.acknowledge("outlet", pulled)
            found.extend(pulled)
            return any(p.attributes["svix-id"] == event_id for p in pulled)

        wait_for(has_arrived, f"the event {event_id}")
        return [p for p in found if p.attributes["svix-id"] != event_id]


class HaltingPubSub(PubSub):
    """Halts before it stores a message, or after, until `go_on` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.halt_before = False
        self.halt_after = False
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def _publish(self, request: Any, context: Any) -> Any:
        if self.halt_before:
            self.reached.set()
            await self.go_on.wait()
        response = await super()._publish(request, context)
        if self.halt_after:
            self.reached.set()
            await self.go_on.wait()
        return response
