"""Publishes to Pub/Sub so that concurrent requests share round trips.

One publish request costs about as much for a hundred messages as for one. A message is sent at
once, unless MAX_IN_FLIGHT publish requests are in flight; then it waits and goes out with the next
one. No timer runs. `publish` returns only when Pub/Sub has confirmed the message.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.pubsub_v1 import types

from pipeline.logs import log, stack_trace
from pipeline.message import write_attributes
from pipeline.receive.channel import NoCredentialsError, OpenChannel, channel_opener
from pipeline.receive.verification import VerifiedEvent
from pipeline.unforeseen import state_after

# The protocol buffers themselves: the classes of `types` wrap every message once more.
_PublishRequest = types.PublishRequest.pb()
_PublishResponse = types.PublishResponse.pb()
_PubsubMessage = types.PubsubMessage.pb()

# Pub/Sub accepts 10,000,000 bytes and 1,000 messages in one publish request.
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
_LEAST_SECONDS = 1.0  # for another try
_LONGEST_PAUSE_SECONDS = 1.0


class PublishError(Exception):
    """Pub/Sub did not confirm the message, although it may have stored it."""


class _TimeIsOverError(PublishError):
    """Pub/Sub has failed for as long as one of the messages could wait."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    message: Any  # a _PubsubMessage
    size: int
    deadline: float  # of the event loop's clock
    confirmed: asyncio.Future[None]


async def open_publisher(topic: str, emulator_host: str | None) -> "Publisher":
    """A publisher to a topic, of an emulator or of Google with the default credentials.

    Raises:
        PublishError: there are no credentials.
    """
    try:
        return Publisher(topic, await channel_opener(emulator_host))
    except NoCredentialsError as error:
        raise PublishError(f"no credentials for Pub/Sub: {error}") from error


class Publisher:
    """Publishes verified events to one topic. Belongs to one event loop."""

    def __init__(self, topic: str, open_channel: OpenChannel) -> None:
        self._topic = topic
        self._open_channel = open_channel
        self._channel = open_channel()
        self._waiting: deque[_Waiting] = deque()
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop only has weak references

    async def publish(self, event: VerifiedEvent, stored_payload: str | None = None) -> None:
        """Publish the event; return once Pub/Sub has confirmed it.

        With `stored_payload`, the name of the object that holds the body, the message carries that
        name in place of the body.

        Raises:
            PublishError: Pub/Sub refused the message, or did not confirm it within 10 s.
        """
        message = _message(event, stored_payload)
        loop = asyncio.get_running_loop()
        confirmed = loop.create_future()
        deadline = loop.time() + CONFIRMATION_SECONDS
        self._waiting.append(_Waiting(message, message.ByteSize(), deadline, confirmed))
        self._start_publishing()
        try:
            await confirmed
        finally:
            # The traceback of its exception refers to this frame, and so to the body: a circle,
            # which the garbage collector would break only after many such failures.
            del confirmed

    async def close(self) -> None:
        """Close the connection. Nothing may be waiting or in flight."""
        await self._channel.close()

    def _start_publishing(self) -> None:
        """Start a task that publishes what is waiting, unless enough tasks are running."""
        if self._waiting and self._in_flight < MAX_IN_FLIGHT:
            self._in_flight += 1
            self._keep(asyncio.create_task(self._publish_waiting()))

    async def _publish_waiting(self) -> None:
        try:
            while batch := self._next_batch():
                outcome: PublishError | None = PublishError("the publish was interrupted")
                try:
                    outcome = await self._publish_batch(batch)
                    if isinstance(outcome, _TimeIsOverError):
                        batch = self._put_back_recent(batch)
                except Exception as error:  # noqa: BLE001  # see pipeline.unforeseen
                    outcome = PublishError(state_after(error))
                    log("ERROR", "publish failed", reason=str(outcome), **stack_trace(error))
                finally:
                    _settle(batch, outcome)
        finally:
            # Not in a callback of the task: a message that arrives after the last look at the queue
            # has to start the next task.
            self._in_flight -= 1
            self._start_publishing()

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
                continue  # its request has given up
            if following.deadline <= now:
                _settle([following], PublishError("Pub/Sub does not confirm messages"))
                continue
            batch.append(following)
            size += following.size
        return batch

    def _put_back_recent(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Let the events with time for another try wait for the next batch; return the others."""
        last = asyncio.get_running_loop().time() + _LEAST_SECONDS
        self._waiting.extendleft(reversed([each for each in batch if each.deadline > last]))
        return [each for each in batch if each.deadline <= last]

    async def _publish_batch(self, batch: list[_Waiting]) -> PublishError | None:
        """Publish and retry until the batch is confirmed; return why it is not.

        A _TimeIsOverError: for the oldest message.
        """
        request = _PublishRequest(topic=self._topic, messages=[w.message for w in batch])
        now = asyncio.get_running_loop().time
        deadline = batch[0].deadline  # of the oldest message
        pause = _FIRST_PAUSE_SECONDS
        while True:
            channel = self._channel
            timeout = max(0.001, min(TRY_SECONDS, deadline - now()))
            try:
                response = await _publish_rpc(channel)(request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
                if error.code() not in _TRANSIENT:
                    return PublishError(reason)
                if now() + pause >= deadline:
                    return _TimeIsOverError(reason)
                if timeout == TRY_SECONDS and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    self._replace_channel(channel)
            else:
                if len(response.message_ids) != len(batch):
                    return PublishError(
                        "Pub/Sub confirmed another number of messages than were sent"
                    )
                return None
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _replace_channel(self, unresponsive: grpc.aio.Channel) -> None:
        """Open a new connection: gRPC itself would keep an unresponsive one for a minute."""
        if unresponsive is self._channel:
            self._channel = self._open_channel()
            self._keep(asyncio.create_task(unresponsive.close(grace=CONFIRMATION_SECONDS)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _settle(batch: list[_Waiting], failure: PublishError | None) -> None:
    for waiting in batch:
        if waiting.confirmed.done():
            continue  # its request has given up
        if failure:
            waiting.confirmed.set_exception(failure)
        else:
            waiting.confirmed.set_result(None)


def _publish_rpc(channel: grpc.aio.Channel) -> Callable[..., Awaitable[Any]]:
    return channel.unary_unary(
        "/google.pubsub.v1.Publisher/Publish",
        request_serializer=_PublishRequest.SerializeToString,
        response_deserializer=_PublishResponse.FromString,
    )


def _message(event: VerifiedEvent, stored_payload: str | None) -> Any:
    attributes = write_attributes(
        event.event_id, event.timestamp, event.received_at, stored_payload
    )
    data = event.body if stored_payload is None else b""
    return _PubsubMessage(data=data, attributes=attributes)
