"""A Pub/Sub client for both emulators: topics, subscriptions, publish, pull, acknowledge."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import grpc
from google.api_core.exceptions import DeadlineExceeded
from google.pubsub_v1 import PublisherClient, SubscriberClient, types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

PROJECT = "sandbox"


@dataclass(frozen=True)
class PulledMessage:
    """One pulled message."""

    ack_id: str
    data: bytes
    attributes: dict[str, str]
    message_id: str
    published_at: datetime
    delivery_attempt: int


class PubSubAdmin:
    """A client for the emulator at HOST:PORT. Names are short, without the project `sandbox`."""

    def __init__(self, host: str) -> None:
        self.host = host
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(host, options=options)
        self._publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self._channel))
        self._subscriber = SubscriberClient(
            transport=SubscriberGrpcTransport(channel=self._channel)
        )

    def close(self) -> None:
        self._channel.close()

    def create_topic(self, topic: str) -> str:
        """Create the topic; return its full name."""
        return str(self._publisher.create_topic(name=topic_path(topic)).name)

    def create_subscription(
        self,
        subscription: str,
        topic: str,
        *,
        push_endpoint: str = "",
        bigquery_table: str = "",
        dead_letter_topic: str = "",
        max_delivery_attempts: int = 5,
        backoff_seconds: tuple[float, float] | None = None,
        ack_deadline_seconds: int = 60,
    ) -> None:
        """Create a pull subscription; with an endpoint or a table, one that delivers to it."""
        settings: dict[str, Any] = {}
        if bigquery_table:
            settings["bigquery_config"] = types.BigQueryConfig(
                table=bigquery_table, write_metadata=True
            )
        if dead_letter_topic:
            settings["dead_letter_policy"] = types.DeadLetterPolicy(
                dead_letter_topic=topic_path(dead_letter_topic),
                max_delivery_attempts=max_delivery_attempts,
            )
        if backoff_seconds:
            shortest, longest = backoff_seconds
            settings["retry_policy"] = types.RetryPolicy(
                minimum_backoff=_duration(shortest), maximum_backoff=_duration(longest)
            )
        self._subscriber.create_subscription(
            types.Subscription(
                name=subscription_path(subscription),
                topic=topic_path(topic),
                push_config=types.PushConfig(push_endpoint=push_endpoint),
                ack_deadline_seconds=ack_deadline_seconds,
                **settings,
            )
        )

    def delete_subscription(self, subscription: str) -> None:
        self._subscriber.delete_subscription(subscription=subscription_path(subscription))

    def bigquery_state(self, subscription: str) -> str:
        """The state of a BigQuery subscription: ACTIVE, NOT_FOUND, ..."""
        found = self._subscriber.get_subscription(subscription=subscription_path(subscription))
        return str(found.bigquery_config.state.name)

    def modify_push_config(self, subscription: str, push_endpoint: str) -> None:
        """Change a subscription to push or, with an empty endpoint, to pull."""
        self._subscriber.modify_push_config(
            subscription=subscription_path(subscription),
            push_config=types.PushConfig(push_endpoint=push_endpoint),
        )

    def publish(self, topic: str, data: bytes, **attributes: str) -> str:
        """Publish one message; return its id."""
        response = self._publisher.publish(
            topic=topic_path(topic),
            messages=[types.PubsubMessage(data=data, attributes=attributes)],
        )
        return str(response.message_ids[0])

    def pull(
        self, subscription: str, count: int = 100, timeout: float = 10.0
    ) -> list[PulledMessage]:
        """Pull at most `count` messages; an empty list if none arrives in time."""
        try:
            response = self._subscriber.pull(
                subscription=subscription_path(subscription),
                max_messages=count,
                retry=None,
                timeout=timeout,
            )
        except DeadlineExceeded:
            return []
        return [
            PulledMessage(
                ack_id=received.ack_id,
                data=bytes(received.message.data),
                attributes=dict(received.message.attributes),
                message_id=str(received.message.message_id),
                published_at=cast(datetime, received.message.publish_time),
                delivery_attempt=int(received.delivery_attempt),
            )
            for received in response.received_messages
        ]

    def acknowledge(self, subscription: str, pulled: Sequence[PulledMessage]) -> None:
        self._subscriber.acknowledge(
            subscription=subscription_path(subscription), ack_ids=[p.ack_id for p in pulled]
        )

    def nack(self, subscription: str, pulled: Sequence[PulledMessage]) -> None:
        """Acknowledge negatively: Pub/Sub delivers the messages again."""
        self._subscriber.modify_ack_deadline(
            subscription=subscription_path(subscription),
            ack_ids=[p.ack_id for p in pulled],
            ack_deadline_seconds=0,
        )


def topic_path(topic: str) -> str:
    return f"projects/{PROJECT}/topics/{topic}"


def subscription_path(subscription: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{subscription}"


def _duration(seconds: float) -> dict[str, int]:
    return {"seconds": int(seconds), "nanos": int(seconds % 1 * 1e9)}
