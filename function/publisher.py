"""Publishing to Pub/Sub so that requests share round trips.

A publish costs about the same for one message as for a hundred. Whatever arrives while a few
publishes are in flight waits and goes out together with the next one; a lone message waits for
nobody, and no timer runs. A caller gets its answer only when Pub/Sub has confirmed its message.
"""

import asyncio
import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport

from verification import VerifiedEvent

# Pub/Sub takes 10,000,000 bytes and 1,000 messages in one publish request.
MAX_BATCH_BYTES = 9_500_000
MAX_BATCH_MESSAGES = 1_000
MAX_IN_FLIGHT = 2

CONFIRMATION_SECONDS = 10.0

_TRANSIENT = {
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0

_PublishRequest = types.PublishRequest.pb()
_PublishResponse = types.PublishResponse.pb()
_PubsubMessage = types.PubsubMessage.pb()


class PublishError(Exception):
    """Pub/Sub did not confirm the message. It may have it all the same."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    message: Any  # a PubsubMessage protocol buffer
    size: int
    confirmed: asyncio.Future[None]


class Publisher:
    """Publishes verified events to one topic. Belongs to one event loop."""

    def __init__(self, topic: str, emulator_host: str | None) -> None:
        self._topic = topic
        self._channel = _open_channel(emulator_host)
        self._publish_rpc = self._channel.unary_unary(
            "/google.pubsub.v1.Publisher/Publish",
            request_serializer=_PublishRequest.SerializeToString,
            response_deserializer=_PublishResponse.FromString,
        )
        self._waiting: deque[_Waiting] = deque()
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds them weakly

    async def publish(self, event: VerifiedEvent, stored_payload: str | None = None) -> None:
        """Publish the event and return once Pub/Sub has confirmed it.

        The message's data is the raw body; with `stored_payload`, the name of the object that
        holds the body, the message carries that name instead.

        Raises:
            PublishError: Pub/Sub refused the message or could not be reached in time.
        """
        message = _message(event, stored_payload)
        confirmed = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(message, message.ByteSize(), confirmed))
        if self._in_flight < MAX_IN_FLIGHT:
            self._in_flight += 1
            task = asyncio.create_task(self._publish_waiting())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await confirmed

    async def close(self) -> None:
        """Close the connection. Nothing may be under way."""
        await self._channel.close()

    async def _publish_waiting(self) -> None:
        try:
            while batch := self._next_batch():
                failure = await self._publish_batch(batch)
                for waiting in batch:
                    if waiting.confirmed.done():
                        continue  # its request gave up waiting
                    if failure:
                        waiting.confirmed.set_exception(failure)
                    else:
                        waiting.confirmed.set_result(None)
        finally:
            # Here and not in a callback of the task: whoever comes after the last look at the
            # queue must find the place free.
            self._in_flight -= 1

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_MESSAGES:
            following = self._waiting[0]
            if batch and size + following.size > MAX_BATCH_BYTES:
                break
            self._waiting.popleft()
            if not following.confirmed.done():  # nobody waits for a request that gave up
                batch.append(following)
                size += following.size
        return batch

    async def _publish_batch(self, batch: list[_Waiting]) -> PublishError | None:
        request = _PublishRequest(topic=self._topic, messages=[w.message for w in batch])
        deadline = asyncio.get_running_loop().time() + CONFIRMATION_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while True:
            remaining = deadline - asyncio.get_running_loop().time()
            try:
                response = await self._publish_rpc(request, timeout=max(remaining, 0.001))
            except grpc.aio.AioRpcError as error:
                if error.code() not in _TRANSIENT or remaining <= pause:
                    return PublishError(f"{error.code().name}: {error.details()}")
            else:
                if len(response.message_ids) != len(batch):
                    return PublishError("Pub/Sub confirmed another number of messages than it got")
                return None
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _message(event: VerifiedEvent, stored_payload: str | None) -> Any:
    attributes = {
        "svix-id": event.event_id,
        "svix-timestamp": event.timestamp,
        "received-at": event.received_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    if stored_payload:
        return _PubsubMessage(attributes=attributes | {"payload": stored_payload})
    return _PubsubMessage(data=event.body, attributes=attributes)


def _open_channel(emulator_host: str | None) -> grpc.aio.Channel:
    options = [
        ("grpc.max_send_message_length", -1),
        # Without a bound the pauses between attempts to connect grow to two minutes, and the
        # receiver would go on refusing long after Pub/Sub is back.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.keepalive_time_ms", 30000),
    ]
    if emulator_host:
        return grpc.aio.insecure_channel(emulator_host, options=options)
    channel: grpc.aio.Channel = PublisherGrpcAsyncIOTransport.create_channel(options=options)
    return channel
