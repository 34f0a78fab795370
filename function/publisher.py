"""Publishing to Pub/Sub so that requests share round trips.

A publish costs about the same for one message as for a hundred. Whatever arrives while a few
publishes are in flight waits and goes out together with the next one; a lone message waits for
nobody, and no timer runs. A caller gets its answer only when Pub/Sub has confirmed its message.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.auth.exceptions import GoogleAuthError

from pubsub_messages import PublishRequest, PublishResponse, PubsubMessage
from verification import VerifiedEvent

# Pub/Sub takes 10,000,000 bytes and 1,000 messages in one publish request.
MAX_BATCH_BYTES = 9_500_000
MAX_BATCH_MESSAGES = 1_000
MAX_IN_FLIGHT = 2

CONFIRMATION_SECONDS = 10.0
TRY_SECONDS = 4.0

_TRANSIENT = {
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0


class PublishError(Exception):
    """Pub/Sub did not confirm the message. It may have it all the same."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    message: Any  # a PubsubMessage
    size: int
    deadline: float  # of the event loop's clock
    confirmed: asyncio.Future[None]


async def open_publisher(topic: str, emulator_host: str | None) -> "Publisher":
    """A publisher to a topic, at an emulator or at Google with the default credentials.

    Raises:
        PublishError: there are no credentials to be had.
    """
    if emulator_host:
        return Publisher(topic, lambda: _emulator_channel(emulator_host))
    import google_channel  # noqa: PLC0415 (an emulator needs none of it)

    try:
        # Asks the metadata server, and so not in the event loop.
        credentials = await asyncio.to_thread(google_channel.default_credentials)
    except GoogleAuthError as error:
        raise PublishError(f"no credentials for Pub/Sub: {error}") from error
    return Publisher(
        topic, lambda: google_channel.open_google_channel(credentials, _CHANNEL_OPTIONS)
    )


class Publisher:
    """Publishes verified events to one topic. Belongs to one event loop."""

    def __init__(self, topic: str, open_channel: Callable[[], grpc.aio.Channel]) -> None:
        self._topic = topic
        self._open_channel = open_channel
        self._channel = open_channel()
        self._waiting: deque[_Waiting] = deque()
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds them weakly

    async def publish(self, event: VerifiedEvent, stored_payload: str | None = None) -> None:
        """Publish the event and return once Pub/Sub has confirmed it.

        The message's data is the raw body; with `stored_payload`, the name of the object that
        holds the body, the message carries that name instead.

        Raises:
            PublishError: Pub/Sub refused the message, or did not confirm it within 10 s.
        """
        message = _message(event, stored_payload)
        loop = asyncio.get_running_loop()
        confirmed = loop.create_future()
        deadline = loop.time() + CONFIRMATION_SECONDS
        self._waiting.append(_Waiting(message, message.ByteSize(), deadline, confirmed))
        self._begin()
        await confirmed

    async def close(self) -> None:
        """Close the connection. Nothing may be under way."""
        await self._channel.close()

    def _begin(self) -> None:
        """Let a task publish what waits, unless enough of them are at it."""
        if self._waiting and self._in_flight < MAX_IN_FLIGHT:
            self._in_flight += 1
            self._keep(asyncio.create_task(self._publish_waiting()))

    async def _publish_waiting(self) -> None:
        try:
            while batch := self._next_batch():
                outcome: PublishError | None = PublishError("the publish broke off")
                try:
                    outcome = await self._publish_batch(batch)
                finally:
                    _settle(batch, outcome)
        finally:
            # Here and not in a callback of the task: whoever comes after the last look at the
            # queue must find the place free.
            self._in_flight -= 1
            self._begin()

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        now = asyncio.get_running_loop().time()
        while self._waiting and len(batch) < MAX_BATCH_MESSAGES:
            following = self._waiting[0]
            if batch and size + following.size > MAX_BATCH_BYTES:
                break
            self._waiting.popleft()
            if following.confirmed.done():
                continue  # nobody waits for a request that gave up
            if following.deadline <= now:
                _settle([following], PublishError("Pub/Sub confirms nothing"))
                continue
            batch.append(following)
            size += following.size
        return batch

    async def _publish_batch(self, batch: list[_Waiting]) -> PublishError | None:
        """Publish until it is confirmed; otherwise return why it is not."""
        request = PublishRequest(topic=self._topic, messages=[w.message for w in batch])
        now = asyncio.get_running_loop().time
        deadline = batch[0].deadline  # the oldest one's
        pause = _FIRST_PAUSE_SECONDS
        while True:
            channel = self._channel
            timeout = max(0.001, min(TRY_SECONDS, deadline - now()))
            try:
                response = await _publish_rpc(channel)(request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _TRANSIENT or now() + pause >= deadline:
                    return PublishError(f"{error.code().name}: {error.details()}")
                if timeout == TRY_SECONDS and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    self._leave(channel)
            else:
                if len(response.message_ids) != len(batch):
                    return PublishError("Pub/Sub confirmed another number of messages than it got")
                return None
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _leave(self, silent: grpc.aio.Channel) -> None:
        """Go on over a new connection: one that has gone silent is given up after a minute only."""
        if silent is self._channel:
            self._channel = self._open_channel()
            self._keep(asyncio.create_task(silent.close(grace=CONFIRMATION_SECONDS)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _settle(batch: list[_Waiting], failure: PublishError | None) -> None:
    for waiting in batch:
        if waiting.confirmed.done():
            continue  # its request gave up waiting
        if failure:
            waiting.confirmed.set_exception(failure)
        else:
            waiting.confirmed.set_result(None)


def _publish_rpc(channel: grpc.aio.Channel) -> Callable[..., Awaitable[Any]]:
    return channel.unary_unary(
        "/google.pubsub.v1.Publisher/Publish",
        request_serializer=PublishRequest.SerializeToString,
        response_deserializer=PublishResponse.FromString,
    )


def _message(event: VerifiedEvent, stored_payload: str | None) -> Any:
    attributes = {
        "svix-id": event.event_id,
        "svix-timestamp": event.timestamp,
        "received-at": event.received_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    if stored_payload:
        return PubsubMessage(attributes=attributes | {"payload": stored_payload})
    return PubsubMessage(data=event.body, attributes=attributes)


_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    # Without a bound the pauses between attempts to connect grow to two minutes, and the receiver
    # would go on refusing long after Pub/Sub is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30000),
    # Channels to one host share their connections otherwise, the silent one with its successor.
    ("grpc.use_local_subchannel_pool", 1),
]


def _emulator_channel(host: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(host, options=_CHANNEL_OPTIONS)
