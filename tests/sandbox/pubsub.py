"""A small Pub/Sub server: publish, push, BigQuery subscriptions, pull, backoff, dead letters.

It implements the gRPC API of google.pubsub.v1, so clients only need PUBSUB_EMULATOR_HOST. It keeps
messages in memory or, with a file, on the disk. The same tests run against it and against Google's
emulator. It does not support ordering keys, filters, schemas, snapshots, streaming pull,
exactly-once delivery or authentication.

To run it alone: python -m sandbox.pubsub --port 8085 [--file queue.sqlite3]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from google.pubsub_v1 import types

from sandbox.bigquery_rows import Tables, state_of, table_of
from sandbox.bigquery_subscriptions import write_all
from sandbox.pubsub_file import NoFile, QueueFile
from sandbox.pubsub_queue import (
    Message,
    QueuedMessage,
    Subscription,
    backoff,
    dead_letter,
    now,
    wait_for_due,
)

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

ACKNOWLEDGING_STATUSES = {102, 200, 201, 202, 204}
MAX_REQUEST_BYTES = 10_000_000
MAX_CONCURRENT_PUSHES = 100
MAX_PULL_SECONDS = 5.0  # how long a pull waits for the first message
DEFAULT_ACK_DEADLINE_SECONDS = 10
MAX_REPEAT_SECONDS = 2.0


class PubSub:
    """The server. Start and stop it in the same event loop; messages survive a restart.

    `tables` are what BigQuery subscriptions write to. `attempt_reset_share` is the share of
    repeated pushes that say they are the first attempt: Google's counter is "best effort".
    `repeat_share` is the share of acknowledged deliveries that are made once more. A subscription
    begins with the messages that `file` has kept for one of its name.
    """

    def __init__(
        self,
        attempt_reset_share: float = 0.0,
        repeat_share: float = 0.0,
        tables: Tables | None = None,
        file: NoFile | None = None,
    ) -> None:
        self._file = file or NoFile()
        self._attempt_reset_share = attempt_reset_share
        self._repeat_share = repeat_share
        self._tables = tables
        self._topics: dict[str, Message] = {}
        self._subscriptions: dict[str, Subscription] = {}
        # Ids of one length, like Google's: a view that compares them as text compares their order.
        first = max(time.time_ns() // 1000, self._file.last_number + 1)
        self._numbers = itertools.count(first)
        self._pushes: set[asyncio.Task[None]] = set()
        self._server: grpc.aio.Server | None = None
        self._http: aiohttp.ClientSession | None = None

    async def start(self, port: int = 0) -> int:
        """Serve on loopback; return the port."""
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", 64 * 1024 * 1024),
                ("grpc.so_reuseport", 0),
            ]
        )
        self._server.add_generic_rpc_handlers((self._publisher_rpcs(), self._subscriber_rpcs()))
        bound = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False
        )
        await self._server.start()
        for subscription in self._subscriptions.values():
            self._start_deliverer(subscription)
        return bound

    async def stop(self) -> None:
        """Stop serving and delivering. Messages of interrupted pushes return to the backlog."""
        deliverers = [s.deliverer for s in self._subscriptions.values() if s.deliverer]
        for task in [*deliverers, *self._pushes]:
            task.cancel()
        await asyncio.gather(*deliverers, *self._pushes, return_exceptions=True)
        if self._server:
            await self._server.stop(grace=0.2)
        if self._http:
            await self._http.close()

    # Publisher

    def _publisher_rpcs(self) -> grpc.GenericRpcHandler:
        return _rpcs(
            "google.pubsub.v1.Publisher",
            CreateTopic=(self._create_topic, types.Topic),
            GetTopic=(self._get_topic, types.GetTopicRequest),
            ListTopics=(self._list_topics, types.ListTopicsRequest),
            DeleteTopic=(self._delete_topic, types.DeleteTopicRequest),
            Publish=(self._publish, types.PublishRequest),
        )

    async def _create_topic(self, topic: Message, context: Context) -> Message:
        await _check_name(topic.name, "topics", context)
        if topic.name in self._topics:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "Topic already exists")
        self._topics[topic.name] = topic
        return topic

    async def _get_topic(self, request: Message, context: Context) -> Message:
        return await self._topic(request.topic, context)

    async def _list_topics(self, request: Message, _: Context) -> Message:
        topics = [t for name, t in self._topics.items() if name.startswith(f"{request.project}/")]
        return types.ListTopicsResponse.pb()(topics=topics)

    async def _delete_topic(self, request: Message, context: Context) -> Message:
        await self._topic(request.topic, context)
        del self._topics[request.topic]
        for subscription in self._subscriptions.values():
            if subscription.config.topic == request.topic:
                subscription.config.topic = "_deleted-topic_"
        return Empty()

    async def _publish(self, request: Message, context: Context) -> Message:
        await self._topic(request.topic, context)
        if problem := _publish_problem(request):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        try:
            ids = self._accept(request.topic, request.messages)
        except sqlite3.Error as error:
            text = f"The messages cannot be written to the disk: {error}"
            await context.abort(grpc.StatusCode.UNAVAILABLE, text)
        return types.PublishResponse.pb()(message_ids=ids)

    def _accept(self, topic: str, messages: Sequence[Message]) -> list[str]:
        """Queue messages for the subscriptions of a topic, on the disk first; return their ids."""
        subscriptions = [s for s in self._subscriptions.values() if s.config.topic == topic]
        accepted = [self._number(message) for message in messages]
        self._file.add([s.config.name for s in subscriptions], [each.stored for each in accepted])
        for subscription in subscriptions:
            for each in accepted:
                subscription.add(QueuedMessage(now(), each.number, each.message))
        return [each.message.message_id for each in accepted]

    def _number(self, message: Message) -> QueuedMessage:
        number = next(self._numbers)
        published = Timestamp()
        published.GetCurrentTime()
        accepted = types.PubsubMessage.pb()(
            data=message.data,
            attributes=message.attributes,
            message_id=str(number),
            publish_time=published,
        )
        return QueuedMessage(now(), number, accepted)

    async def _topic(self, name: str, context: Context) -> Message:
        await _check_name(name, "topics", context)
        if name not in self._topics:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Topic not found (resource={name}).")
        return self._topics[name]

    # Subscriber

    def _subscriber_rpcs(self) -> grpc.GenericRpcHandler:
        return _rpcs(
            "google.pubsub.v1.Subscriber",
            CreateSubscription=(self._create_subscription, types.Subscription),
            GetSubscription=(self._get_subscription, types.GetSubscriptionRequest),
            ListSubscriptions=(self._list_subscriptions, types.ListSubscriptionsRequest),
            DeleteSubscription=(self._delete_subscription, types.DeleteSubscriptionRequest),
            ModifyPushConfig=(self._modify_push_config, types.ModifyPushConfigRequest),
            ModifyAckDeadline=(self._modify_ack_deadline, types.ModifyAckDeadlineRequest),
            Acknowledge=(self._acknowledge, types.AcknowledgeRequest),
            Pull=(self._pull, types.PullRequest),
        )

    async def _create_subscription(self, config: Message, context: Context) -> Message:
        await _check_name(config.name, "subscriptions", context)
        if config.name in self._subscriptions:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "Subscription already exists")
        await self._topic(config.topic, context)
        config.ack_deadline_seconds = config.ack_deadline_seconds or DEFAULT_ACK_DEADLINE_SECONDS
        if not 1 <= config.ack_deadline_seconds <= 600:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "ack_deadline_seconds must be 1 to 600"
            )
        if config.HasField("dead_letter_policy"):
            attempts = config.dead_letter_policy.max_delivery_attempts or 5
            if not 5 <= attempts <= 100:
                await context.abort(
                    grpc.StatusCode.OUT_OF_RANGE, "max_delivery_attempts must be 5 to 100"
                )
            if config.dead_letter_policy.dead_letter_topic not in self._topics:
                await context.abort(grpc.StatusCode.NOT_FOUND, "Dead letter topic not found")
            config.dead_letter_policy.max_delivery_attempts = attempts
        if config.bigquery_config.table:
            await self._check_bigquery(config, context)
        subscription = Subscription(config)
        for stored in self._file.messages(config.name):
            subscription.add(QueuedMessage.restored(stored, now()))
        self._subscriptions[config.name] = subscription
        self._start_deliverer(subscription)
        return config

    async def _check_bigquery(self, config: Message, context: Context) -> None:
        if config.push_config.push_endpoint:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                "push_config and bigquery_config exclude each other",
            )
        try:
            table = table_of(config.bigquery_config)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if not (self._tables and self._tables.has_table(table)):
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"Table not found ({config.bigquery_config.table})"
            )
        config.bigquery_config.state = state_of(None)

    async def _get_subscription(self, request: Message, context: Context) -> Message:
        return (await self._subscription(request.subscription, context)).config

    async def _list_subscriptions(self, request: Message, _: Context) -> Message:
        subscriptions = [
            s.config
            for name, s in self._subscriptions.items()
            if name.startswith(f"{request.project}/")
        ]
        return types.ListSubscriptionsResponse.pb()(subscriptions=subscriptions)

    async def _delete_subscription(self, request: Message, context: Context) -> Message:
        subscription = await self._subscription(request.subscription, context)
        if subscription.deliverer:
            subscription.deliverer.cancel()
        del self._subscriptions[request.subscription]
        self._file.remove_all(request.subscription)
        return Empty()

    async def _modify_push_config(self, request: Message, context: Context) -> Message:
        subscription = await self._subscription(request.subscription, context)
        subscription.config.push_config.CopyFrom(request.push_config)
        self._start_deliverer(subscription)
        return Empty()

    async def _modify_ack_deadline(self, request: Message, context: Context) -> Message:
        subscription = await self._subscription(request.subscription, context)
        for ack_id in request.ack_ids:
            if request.ack_deadline_seconds == 0:
                self._expire(subscription, ack_id)
            elif queued := subscription.leased.pop(ack_id, None):
                self._lease(subscription, queued, request.ack_deadline_seconds, ack_id)
        return Empty()

    async def _acknowledge(self, request: Message, context: Context) -> Message:
        subscription = await self._subscription(request.subscription, context)
        for ack_id in request.ack_ids:
            if queued := subscription.leased.pop(ack_id, None):
                self._forget(subscription, queued)
        return Empty()

    async def _pull(self, request: Message, context: Context) -> Message:
        subscription = await self._subscription(request.subscription, context)
        # Like Google's, it returns an empty response a second before the client's deadline.
        max_wait = min(MAX_PULL_SECONDS, (context.time_remaining() or MAX_PULL_SECONDS) - 1)
        deadline = now() + (0 if request.return_immediately else max_wait)
        received: list[Message] = []
        while len(received) < max(request.max_messages, 1):
            queued = subscription.take_due(now())
            if queued:
                queued.attempts += 1
                ack_id = self._lease(subscription, queued, subscription.config.ack_deadline_seconds)
                received.append(
                    types.ReceivedMessage.pb()(
                        ack_id=ack_id,
                        message=queued.message,
                        delivery_attempt=queued.attempts if subscription.dead_letter_topic else 0,
                    )
                )
            elif received or now() >= deadline:
                break
            else:
                await wait_for_due(subscription, deadline)
        return types.PullResponse.pb()(received_messages=received)

    async def _subscription(self, name: str, context: Context) -> Subscription:
        await _check_name(name, "subscriptions", context)
        if name not in self._subscriptions:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"Subscription does not exist (resource={name})."
            )
        return self._subscriptions[name]

    # Delivery

    def _lease(
        self,
        subscription: Subscription,
        queued: QueuedMessage,
        seconds: float,
        ack_id: str | None = None,
    ) -> str:
        lease = now()
        ack_id = ack_id or f"{queued.number}-{queued.attempts}-{lease}"
        subscription.leased[ack_id] = queued
        queued.due = lease + seconds

        def expire() -> None:
            if subscription.leased.get(ack_id) is queued and queued.due <= now():
                self._expire(subscription, ack_id)

        asyncio.get_running_loop().call_later(seconds + 0.001, expire)
        return ack_id

    def _expire(self, subscription: Subscription, ack_id: str) -> None:
        if queued := subscription.leased.pop(ack_id, None):
            self._retry_or_dead_letter(subscription, queued)

    def _retry_or_dead_letter(self, subscription: Subscription, queued: QueuedMessage) -> None:
        """After a failed attempt: move it to the dead letters, or queue it again with a backoff."""
        policy = subscription.config.dead_letter_policy
        exhausted = queued.attempts >= policy.max_delivery_attempts
        # If the dead-letter topic is missing, the message stays, as in Google Cloud.
        if exhausted and subscription.dead_letter_topic in self._topics:
            with self._reported():
                self._accept(subscription.dead_letter_topic, [dead_letter(subscription, queued)])
                self._forget(subscription, queued)
                return
        with self._reported():
            self._file.set_attempts(subscription.config.name, queued.number, queued.attempts)
        queued.due = now() + backoff(subscription.config, queued.attempts)
        subscription.add(queued)

    def _settle(self, subscription: Subscription, queued: QueuedMessage, is_done: bool) -> None:
        """After an attempt: forget the message, deliver it again, or move it to dead letters."""
        if not is_done:
            self._retry_or_dead_letter(subscription, queued)
        elif random.random() < self._repeat_share:
            queued.due = now() + random.uniform(0, MAX_REPEAT_SECONDS)
            subscription.add(queued)
        else:
            self._forget(subscription, queued)

    def _forget(self, subscription: Subscription, queued: QueuedMessage) -> None:
        with self._reported():
            self._file.remove(subscription.config.name, queued.number)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Report an error of the file and go on: the message is delivered again, now or later."""
        try:
            yield
        except sqlite3.Error as error:
            print(f"Pub/Sub cannot change its messages on disk: {error}", file=sys.stderr)

    def _start_deliverer(self, subscription: Subscription) -> None:
        if subscription.deliverer:
            subscription.deliverer.cancel()
        if subscription.config.bigquery_config.table:
            assert self._tables
            delivering = write_all(subscription, self._tables, self._settle)
        else:
            delivering = self._push_all(subscription)
        subscription.deliverer = asyncio.create_task(delivering)

    async def _push_all(self, subscription: Subscription) -> None:
        slots = asyncio.Semaphore(MAX_CONCURRENT_PUSHES)
        while endpoint := subscription.config.push_config.push_endpoint:
            async with slots:  # wait for a free slot; it is taken below, once a message is due
                pass
            queued = subscription.take_due(now())
            if not queued:
                await wait_for_due(subscription, None)
                continue
            await slots.acquire()
            push = asyncio.create_task(self._push(subscription, queued, endpoint))
            self._pushes.add(push)
            push.add_done_callback(self._pushes.discard)
            push.add_done_callback(lambda _: slots.release())

    async def _push(self, subscription: Subscription, queued: QueuedMessage, endpoint: str) -> None:
        queued.attempts += 1
        try:
            acknowledged = await self._post(subscription.config, queued, endpoint)
        except asyncio.CancelledError:
            queued.attempts -= 1
            subscription.add(queued)
            raise
        self._settle(subscription, queued, acknowledged)

    async def _post(self, config: Message, queued: QueuedMessage, endpoint: str) -> bool:
        assert self._http
        timeout = aiohttp.ClientTimeout(total=config.ack_deadline_seconds)
        is_reset = random.random() < self._attempt_reset_share
        body = _push_body(config, queued, attempt=1 if is_reset else queued.attempts)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "CloudPubSub-Sandbox",
            "From": "noreply@google.com",
        }
        try:
            async with self._http.post(
                endpoint, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return response.status in ACKNOWLEDGING_STATUSES
        except (aiohttp.ClientError, TimeoutError):
            return False


def _rpcs(
    service: str, **methods: tuple[Callable[..., Awaitable[Message]], Any]
) -> grpc.GenericRpcHandler:
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(
            method,
            request_deserializer=request.pb().FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )
        for name, (method, request) in methods.items()
    }
    return grpc.method_handlers_generic_handler(service, handlers)


async def _check_name(name: str, collection: str, context: Context) -> None:
    parts = name.split("/")
    if len(parts) != 4 or (parts[0], parts[2]) != ("projects", collection) or len(parts[3]) < 3:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Invalid [{collection}] name: (name={name}): projects/PROJECT/{collection}/ID",
        )


def _publish_problem(request: Message) -> str | None:
    if request.ByteSize() > MAX_REQUEST_BYTES:
        return f"The request is over {MAX_REQUEST_BYTES} bytes."
    if not 1 <= len(request.messages) <= 1000:
        return "A request takes 1 to 1,000 messages."
    for message in request.messages:
        if not (message.data or message.attributes):
            return "A message needs data or at least one attribute."
        for key, value in message.attributes.items():
            if not 0 < len(key.encode()) <= 256 or len(value.encode()) > 1024:
                return "An attribute is too long (keys 256 bytes, values 1024)."
    return None


def _push_body(config: Message, queued: QueuedMessage, attempt: int) -> bytes:
    message = queued.message
    published = message.publish_time.ToJsonString()
    envelope: dict[str, Any] = {
        "message": {
            "attributes": dict(message.attributes),
            "data": base64.b64encode(message.data).decode(),
            "messageId": message.message_id,
            "message_id": message.message_id,
            "publishTime": published,
            "publish_time": published,
        },
        "subscription": config.name,
    }
    if config.dead_letter_policy.dead_letter_topic:
        envelope["deliveryAttempt"] = attempt
    return json.dumps(envelope).encode()


async def _serve(port: int, path: Path | None) -> None:
    file = QueueFile(path) if path else NoFile()
    pubsub = PubSub(file=file)
    bound = await pubsub.start(port)
    print(f"Pub/Sub is running: export PUBSUB_EMULATOR_HOST=127.0.0.1:{bound}", flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await pubsub.stop()
    file.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8085)
    parser.add_argument("--file", type=Path, help="keeps the messages; without it: in memory")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.file))
