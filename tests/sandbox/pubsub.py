"""Our own small Pub/Sub: topics, publish, push with backoff and dead letters, pull, acknowledge.

It speaks the gRPC of google.pubsub.v1, so clients need nothing but PUBSUB_EMULATOR_HOST, and it
keeps what it was given for as long as the process lives. It is held to Google's emulator by the
tests, which run against both. What it leaves out: ordering keys, filters, schemas, snapshots,
streaming pull, exactly-once delivery and authentication.

Alone: python -m sandbox.pubsub --port 8085
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import heapq
import itertools
import json
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from google.pubsub_v1 import types

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

ACKNOWLEDGING = {102, 200, 201, 202, 204}
MAX_REQUEST_BYTES = 10_000_000
MAX_SIMULTANEOUS_PUSHES = 100
PULL_SECONDS = 5.0  # how long a pull waits for the first message
DEFAULT_ACK_DEADLINE_SECONDS = 10
LEAST_BACKOFF_SECONDS = 0.02

Message = Any  # protocol buffers of google.pubsub.v1; they come without types of their own


@dataclass(order=True)
class _Held:
    """A message that a subscription has to deliver: when next, and how often it was already."""

    due: float
    number: int
    message: Message = field(compare=False)
    attempts: int = field(default=0, compare=False)


@dataclass
class _Subscription:
    config: Message
    backlog: list[_Held] = field(default_factory=list)  # a heap; the next one due is first
    leased: dict[str, _Held] = field(default_factory=dict)  # by ack id
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    pump: asyncio.Task[None] | None = None

    def add(self, held: _Held) -> None:
        heapq.heappush(self.backlog, held)
        self.changed.set()

    def take_due(self, now: float) -> _Held | None:
        if self.backlog and self.backlog[0].due <= now:
            return heapq.heappop(self.backlog)
        return None

    @property
    def dead_letter_topic(self) -> str:
        return str(self.config.dead_letter_policy.dead_letter_topic)


class PubSub:
    """The server. Start it and stop it in one event loop; what it holds outlives a stop."""

    def __init__(self) -> None:
        self._topics: dict[str, Message] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._numbers = itertools.count(1)
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
            self._start_pump(subscription)
        return bound

    async def stop(self) -> None:
        """Stop serving and pushing. Messages that were being pushed go back to their backlog."""
        pumps = [s.pump for s in self._subscriptions.values() if s.pump]
        for task in [*pumps, *self._pushes]:
            task.cancel()
        await asyncio.gather(*pumps, *self._pushes, return_exceptions=True)
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
        mine = [t for name, t in self._topics.items() if name.startswith(f"{request.project}/")]
        return types.ListTopicsResponse.pb()(topics=mine)

    async def _delete_topic(self, request: Message, context: Context) -> Message:
        await self._topic(request.topic, context)
        del self._topics[request.topic]
        for subscription in self._subscriptions.values():
            if subscription.config.topic == request.topic:
                subscription.config.topic = "_deleted-topic_"
        return Empty()

    async def _publish(self, request: Message, context: Context) -> Message:
        await self._topic(request.topic, context)
        if fault := _publish_fault(request):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, fault)
        ids = [self._accept(request.topic, message) for message in request.messages]
        return types.PublishResponse.pb()(message_ids=ids)

    def _accept(self, topic: str, message: Message) -> str:
        number = next(self._numbers)
        published = Timestamp()
        published.GetCurrentTime()
        accepted = types.PubsubMessage.pb()(
            data=message.data,
            attributes=message.attributes,
            message_id=str(number),
            publish_time=published,
        )
        for subscription in self._subscriptions.values():
            if subscription.config.topic == topic:
                subscription.add(_Held(_now(), number, accepted))
        return str(number)

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
                grpc.StatusCode.INVALID_ARGUMENT, "ack_deadline_seconds is out of bounds"
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
        subscription = _Subscription(config)
        self._subscriptions[config.name] = subscription
        self._start_pump(subscription)
        return config

    async def _get_subscription(self, request: Message, context: Context) -> Message:
        return (await self._subscription(request.subscription, context)).config

    async def _list_subscriptions(self, request: Message, _: Context) -> Message:
        mine = [
            s.config
            for name, s in self._subscriptions.items()
            if name.startswith(f"{request.project}/")
        ]
        return types.ListSubscriptionsResponse.pb()(subscriptions=mine)

    async def _delete_subscription(self, request: Message, context: Context) -> Message:
        subscription = await self._subscription(request.subscription, context)
        if subscription.pump:
            subscription.pump.cancel()
        del self._subscriptions[request.subscription]
        return Empty()

    async def _modify_push_config(self, request: Message, context: Context) -> Message:
        subscription = await self._subscription(request.subscription, context)
        subscription.config.push_config.CopyFrom(request.push_config)
        self._start_pump(subscription)
        return Empty()

    async def _modify_ack_deadline(self, request: Message, context: Context) -> Message:
        subscription = await self._subscription(request.subscription, context)
        for ack_id in request.ack_ids:
            if request.ack_deadline_seconds == 0:
                self._expire(subscription, ack_id)
            elif held := subscription.leased.pop(ack_id, None):
                self._lease(subscription, held, request.ack_deadline_seconds, ack_id)
        return Empty()

    async def _acknowledge(self, request: Message, context: Context) -> Message:
        subscription = await self._subscription(request.subscription, context)
        for ack_id in request.ack_ids:
            subscription.leased.pop(ack_id, None)
        return Empty()

    async def _pull(self, request: Message, context: Context) -> Message:
        subscription = await self._subscription(request.subscription, context)
        # Google's answers a second before the client would give up, with nothing, too.
        patience = min(PULL_SECONDS, (context.time_remaining() or PULL_SECONDS) - 1)
        give_up = _now() + (0 if request.return_immediately else patience)
        received: list[Message] = []
        while len(received) < max(request.max_messages, 1):
            held = subscription.take_due(_now())
            if held:
                held.attempts += 1
                ack_id = self._lease(subscription, held, subscription.config.ack_deadline_seconds)
                received.append(
                    types.ReceivedMessage.pb()(
                        ack_id=ack_id,
                        message=held.message,
                        delivery_attempt=held.attempts if subscription.dead_letter_topic else 0,
                    )
                )
            elif received or _now() >= give_up:
                break
            else:
                await _wait_for_due(subscription, give_up)
        return types.PullResponse.pb()(received_messages=received)

    async def _subscription(self, name: str, context: Context) -> _Subscription:
        await _check_name(name, "subscriptions", context)
        if name not in self._subscriptions:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"Subscription does not exist (resource={name})."
            )
        return self._subscriptions[name]

    # Delivery

    def _lease(
        self, subscription: _Subscription, held: _Held, seconds: float, ack_id: str | None = None
    ) -> str:
        lease = _now()
        ack_id = ack_id or f"{held.number}-{held.attempts}-{lease}"
        subscription.leased[ack_id] = held
        held.due = lease + seconds

        def expire() -> None:
            if subscription.leased.get(ack_id) is held and held.due <= _now():
                self._expire(subscription, ack_id)

        asyncio.get_running_loop().call_later(seconds + 0.001, expire)
        return ack_id

    def _expire(self, subscription: _Subscription, ack_id: str) -> None:
        if held := subscription.leased.pop(ack_id, None):
            self._bring_back(subscription, held)

    def _bring_back(self, subscription: _Subscription, held: _Held) -> None:
        """After a failed attempt: the dead letters, or another attempt after the backoff."""
        policy = subscription.config.dead_letter_policy
        exhausted = held.attempts >= policy.max_delivery_attempts
        # Where the topic is missing the message stays, as it does in the cloud.
        if exhausted and subscription.dead_letter_topic in self._topics:
            self._accept(subscription.dead_letter_topic, _dead_letter(subscription, held))
            return
        held.due = _now() + _backoff(subscription.config, held.attempts)
        subscription.add(held)

    def _start_pump(self, subscription: _Subscription) -> None:
        if subscription.pump:
            subscription.pump.cancel()
        subscription.pump = asyncio.create_task(self._push_all(subscription))

    async def _push_all(self, subscription: _Subscription) -> None:
        slots = asyncio.Semaphore(MAX_SIMULTANEOUS_PUSHES)
        while endpoint := subscription.config.push_config.push_endpoint:
            async with slots:  # wait for a free one, to be taken by the push itself
                pass
            held = subscription.take_due(_now())
            if not held:
                await _wait_for_due(subscription, None)
                continue
            await slots.acquire()
            push = asyncio.create_task(self._push(subscription, held, endpoint))
            self._pushes.add(push)
            push.add_done_callback(self._pushes.discard)
            push.add_done_callback(lambda _: slots.release())

    async def _push(self, subscription: _Subscription, held: _Held, endpoint: str) -> None:
        held.attempts += 1
        try:
            acknowledged = await self._post(subscription.config, held, endpoint)
        except asyncio.CancelledError:
            held.attempts -= 1
            subscription.add(held)
            raise
        if not acknowledged:
            self._bring_back(subscription, held)

    async def _post(self, config: Message, held: _Held, endpoint: str) -> bool:
        assert self._http
        timeout = aiohttp.ClientTimeout(total=config.ack_deadline_seconds)
        body = _push_body(config, held)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "CloudPubSub-Sandbox",
            "From": "noreply@google.com",
        }
        try:
            async with self._http.post(
                endpoint, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return response.status in ACKNOWLEDGING
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


def _publish_fault(request: Message) -> str | None:
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


def _dead_letter(subscription: _Subscription, held: _Held) -> Message:
    _, project, _, name = subscription.config.name.split("/")
    published = datetime.fromtimestamp(held.message.publish_time.ToNanoseconds() / 1e9, UTC)
    source = {
        "CloudPubSubDeadLetterSourceDeliveryCount": str(held.attempts),
        "CloudPubSubDeadLetterSourceSubscription": name,
        "CloudPubSubDeadLetterSourceSubscriptionProject": project,
        "CloudPubSubDeadLetterSourceTopicPublishTime": published.isoformat(),
    }
    return types.PubsubMessage.pb()(
        data=held.message.data, attributes=dict(held.message.attributes) | source
    )


def _backoff(config: Message, attempts: int) -> float:
    policy = config.retry_policy
    if not config.HasField("retry_policy"):
        return LEAST_BACKOFF_SECONDS
    shortest = policy.minimum_backoff.ToNanoseconds() / 1e9
    longest = policy.maximum_backoff.ToNanoseconds() / 1e9 or 600.0
    return float(max(LEAST_BACKOFF_SECONDS, min(longest, shortest * 2 ** (attempts - 1))))


def _push_body(config: Message, held: _Held) -> bytes:
    message = held.message
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
        envelope["deliveryAttempt"] = held.attempts
    return json.dumps(envelope).encode()


async def _wait_for_due(subscription: _Subscription, give_up: float | None) -> None:
    """Until a message is due, may be due, or `give_up` has come."""
    times = [t for t in (give_up,) if t is not None]
    times += [subscription.backlog[0].due] if subscription.backlog else []
    subscription.changed.clear()
    try:
        async with asyncio.timeout_at(min(times) if times else None):
            await subscription.changed.wait()
    except TimeoutError:
        return


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _serve(port: int) -> None:
    pubsub = PubSub()
    bound = await pubsub.start(port)
    print(f"Pub/Sub is up: export PUBSUB_EMULATOR_HOST=127.0.0.1:{bound}", flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await pubsub.stop()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=8085)
    asyncio.run(_serve(arguments.parse_args().port))
