"""The queue of a subscription: its messages, their attempts, backoff and dead letters."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from google.pubsub_v1 import types

from sandbox.pubsub_file import StoredMessage

MIN_BACKOFF_SECONDS = 0.02

Message = Any  # the protocol buffers of google.pubsub.v1 have no type annotations


@dataclass(order=True)
class QueuedMessage:
    """A message to deliver, with the time of its next delivery and the attempts so far."""

    due: float
    number: int
    message: Message = field(compare=False)
    attempts: int = field(default=0, compare=False)

    @property
    def stored(self) -> StoredMessage:
        """The message as a file keeps it."""
        published_at = self.message.publish_time.ToJsonString()
        attributes = dict(self.message.attributes)
        return StoredMessage(
            self.number, self.attempts, published_at, attributes, self.message.data
        )

    @classmethod
    def restored(cls, stored: StoredMessage, due: float) -> QueuedMessage:
        """The message that a file has kept."""
        published = Timestamp()
        published.FromJsonString(stored.published_at)
        message = types.PubsubMessage.pb()(
            data=stored.data,
            attributes=dict(stored.attributes),
            message_id=str(stored.number),
            publish_time=published,
        )
        return cls(due, stored.number, message, stored.attempts)


@dataclass
class Subscription:
    config: Message
    backlog: list[QueuedMessage] = field(default_factory=list)  # a heap; the next one due is first
    leased: dict[str, QueuedMessage] = field(default_factory=dict)  # by ack id
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    deliverer: asyncio.Task[None] | None = None  # of a push or BigQuery subscription

    def add(self, queued: QueuedMessage) -> None:
        heapq.heappush(self.backlog, queued)
        self.changed.set()

    def is_due(self, now: float) -> bool:
        return bool(self.backlog) and self.backlog[0].due <= now

    def take_due(self, now: float) -> QueuedMessage | None:
        return heapq.heappop(self.backlog) if self.is_due(now) else None

    @property
    def dead_letter_topic(self) -> str:
        return str(self.config.dead_letter_policy.dead_letter_topic)


def dead_letter(subscription: Subscription, queued: QueuedMessage) -> Message:
    """The message as it is published to the dead-letter topic."""
    published_at = datetime.fromtimestamp(queued.message.publish_time.ToNanoseconds() / 1e9, UTC)
    source = dead_letter_source(subscription.config.name, queued.attempts, published_at)
    return types.PubsubMessage.pb()(
        data=queued.message.data, attributes=dict(queued.message.attributes) | source
    )


def dead_letter_source(subscription: str, attempts: int, published_at: datetime) -> dict[str, str]:
    """The attributes by which a dead letter names the subscription that has given it up."""
    _, project, _, name = subscription.split("/")
    return {
        "CloudPubSubDeadLetterSourceDeliveryCount": str(attempts),
        "CloudPubSubDeadLetterSourceSubscription": name,
        "CloudPubSubDeadLetterSourceSubscriptionProject": project,
        "CloudPubSubDeadLetterSourceTopicPublishTime": published_at.isoformat(),
    }


def backoff(config: Message, attempts: int) -> float:
    """The seconds until the next attempt."""
    policy = config.retry_policy
    if not config.HasField("retry_policy"):
        return MIN_BACKOFF_SECONDS
    shortest = policy.minimum_backoff.ToNanoseconds() / 1e9
    longest = policy.maximum_backoff.ToNanoseconds() / 1e9 or 600.0
    return float(max(MIN_BACKOFF_SECONDS, min(longest, shortest * 2 ** (attempts - 1))))


async def wait_for_due(subscription: Subscription, deadline: float | None) -> None:
    """Return when the first message is due, the backlog changes, or the deadline passes."""
    times = [t for t in (deadline,) if t is not None]
    times += [subscription.backlog[0].due] if subscription.backlog else []
    subscription.changed.clear()
    try:
        async with asyncio.timeout_at(min(times) if times else None):
            await subscription.changed.wait()
    except TimeoutError:
        return


def now() -> float:
    return asyncio.get_running_loop().time()
