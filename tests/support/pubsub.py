"""Pub/Sub for tests: parameters for both servers, a topic with its messages, a halting server."""

import asyncio
from typing import Any

import pytest

from sandbox.pubsub import PubSub
from sandbox.pubsub_admin import PubSubAdmin, PulledMessage
from support.programs import needs
from support.waiting import wait_for

# pytest-xdist runs a group on one worker, so that each server is started only once. Google's
# emulator is slow to start.
BOTH_PUBSUBS = [
    pytest.param("own", marks=pytest.mark.xdist_group("own")),
    pytest.param("google", marks=[pytest.mark.xdist_group("google"), needs("pubsub-emulator")]),
]


class Topic:
    """A topic on the sandbox's Pub/Sub, with access to the published messages."""

    def __init__(self, admin: PubSubAdmin) -> None:
        self._admin = admin
        self.host = admin.host
        self.path = admin.create_topic("test-topic")
        admin.create_subscription("test-topic", "test-topic")

    def published_until(self, event_id: str) -> list[PulledMessage]:
        """The messages published since the last call, up to this event and without it."""
        found: list[PulledMessage] = []

        def has_arrived() -> bool:
            pulled = self._admin.pull("test-topic")
            self._admin.acknowledge("test-topic", pulled)
            found.extend(pulled)
            return any(p.attributes["svix-id"] == event_id for p in pulled)

        wait_for(has_arrived, f"the event {event_id}")
        return [p for p in found if p.attributes["svix-id"] != event_id]


class HaltingPubSub(PubSub):
    """Can halt before or after it stores a message, until `resume` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.halt_before = False
        self.halt_after = False
        self.reached = asyncio.Event()
        self.resume = asyncio.Event()

    async def resume_publishing(self) -> None:
        self.resume.set()

    async def _publish(self, request: Any, context: Any) -> Any:
        if self.halt_before:
            self.reached.set()
            await self.resume.wait()
        response = await super()._publish(request, context)
        if self.halt_after:
            self.reached.set()
            await self.resume.wait()
        return response
