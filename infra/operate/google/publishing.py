"""Publishes messages to the topics of a deployment."""

import base64
from collections.abc import Mapping, Sequence

from operate.google import rest
from operate.google.gcloud import Gcloud
from pipeline.items_topic.item_message import ItemMessage


def publish(gcloud: Gcloud, topic: str, attributes: Mapping[str, str], data: bytes) -> None:
    """Publish one message.

    Raises:
        CommandError: Pub/Sub has not confirmed it.
    """
    _publish(gcloud, topic, [_message(attributes, data)])


def publish_items(gcloud: Gcloud, topic: str, messages: Sequence[ItemMessage]) -> None:
    """Publish messages of items, in one request.

    Raises:
        CommandError: Pub/Sub has not confirmed them.
    """
    _publish(gcloud, topic, [_message(each.attributes(), each.data()) for each in messages])


def _publish(gcloud: Gcloud, topic: str, messages: list[dict[str, object]]) -> None:
    # gcloud takes the data on its command line, where a large body does not fit.
    rest.request(gcloud, "pubsub", "POST", f"v1/{topic}:publish", json={"messages": messages})


def _message(attributes: Mapping[str, str], data: bytes) -> dict[str, object]:
    return {"data": base64.b64encode(data).decode(), "attributes": dict(attributes)}
