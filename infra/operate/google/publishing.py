"""Publishes messages to the topic of a deployment."""

import base64
from collections.abc import Mapping

from operate.google import rest
from operate.google.gcloud import Gcloud


def publish(gcloud: Gcloud, topic: str, attributes: Mapping[str, str], data: bytes) -> None:
    """Publish one message.

    Raises:
        CommandError: Pub/Sub has not confirmed it.
    """
    # gcloud takes the data on its command line, where a large body does not fit.
    message = {"data": base64.b64encode(data).decode(), "attributes": dict(attributes)}
    rest.request(gcloud, "pubsub", "POST", f"v1/{topic}:publish", json={"messages": [message]})
