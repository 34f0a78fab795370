"""Publishes messages to the topics of a deployment."""

import base64
from collections.abc import Sequence

from operate.google import rest
from operate.google.gcloud import Gcloud
from operate.installation import EncodedMessage


def publish(gcloud: Gcloud, topic: str, messages: Sequence[EncodedMessage]) -> None:
    """Publish messages in one request.

    Raises:
        CommandError: Pub/Sub has not confirmed them.
    """
    encoded = [
        {"data": base64.b64encode(data).decode(), "attributes": dict(attributes)}
        for attributes, data in messages
    ]
    # gcloud takes the data on its command line, where a large body does not fit.
    rest.request(gcloud, "pubsub", "POST", f"v1/{topic}:publish", json={"messages": encoded})
