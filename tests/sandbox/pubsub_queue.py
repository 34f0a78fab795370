"""The queue of a subscription: its messages, their attempts, backoff and dead letters."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.pubsub_v1 import types

MIN_BACKOFF_SECONDS = 0.02

Message = Any  # the protocol buffers of google.pubsub.v1 have no type annotations


@dataclass(order=True)
class QueuedMessage:
    """A message to deliver, with the time of its next delivery and the attempts so far."""

    due: float
    number: int
    message: Message = field(compare=False)
    attempts: int = field(default=0, compare=False)


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
    _, project, _, name = subscription.config.name.split("/")
    published = datetime.fromtimestamp(queued.message.publish_time.ToNanoseconds() / 1e9, UTC)
    source = {
        "CloudPubSubDeadLetterSourceDeliveryCount": str(queued.attempts),
        "CloudPubSubDeadLetterSourceSubscription": name,
        "CloudPubSubDeadLetterSourceSubscriptionProject": project,
        "CloudPubSubDeadLetterSourceTopicPublishTime": published.isoformat(),
    }
    return types.PubsubMessage.pb()(
        data=queued.message.data, attributes=dict(queued.message.attributes) | source
    )


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
