"""A topic of items on the sandbox's Pub/Sub, with the messages that were published to it."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from sandbox.background import Background
from sandbox.pubsub import PubSub
from sandbox.pubsub_admin import PubSubAdmin, PulledMessage
from sandbox.relay import Relay
from support.waiting import wait_for

_TOPIC = "items"


class PublishedItems:
    """The topic, behind a relay that can be cut. `server` may be a special Pub/Sub."""

    def __init__(self, background: Background, server: PubSub | None = None) -> None:
        self.server = server or PubSub()
        self._background = background
        port = background.run(self.server.start())
        self._admin = PubSubAdmin(f"127.0.0.1:{port}")
        self._relay = Relay(port)
        relay_port = background.run(self._relay.start())
        self.settings = {
            "ITEMS_TOPIC": self._admin.create_topic(_TOPIC),
            "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{relay_port}",
        }
        self._admin.create_subscription(_TOPIC, _TOPIC)

    def stop(self) -> None:
        self._background.run(self._relay.cut())
        self._admin.close()
        self._background.run(self.server.stop())

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """The topic cannot be reached in this block."""
        self._background.run(self._relay.cut())
        try:
            yield
        finally:
            self._background.run(self._relay.start())

    def take_all(self) -> list[PulledMessage]:
        """All messages since the last call. Their publishers already have the confirmation."""
        self._admin.publish(_TOPIC, b"end")
        found: list[PulledMessage] = []

        def has_ended() -> bool:
            pulled = self._admin.pull(_TOPIC)
            self._admin.acknowledge(_TOPIC, pulled)
            found.extend(pulled)
            return any(message.data == b"end" for message in pulled)

        wait_for(has_ended, "the last message")
        return [message for message in found if message.data != b"end"]


def values(messages: list[PulledMessage]) -> list[dict[str, Any]]:
    """The decoded data of the messages."""
    return [json.loads(message.data) for message in messages]
