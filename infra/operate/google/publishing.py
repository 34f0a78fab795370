"""Publishes messages to the topic of a deployment."""

import base64
import os
from collections.abc import Mapping

import requests

from operate.console import CommandError
from operate.google.gcloud import Gcloud

_HTTP_SECONDS = 60


def publish(gcloud: Gcloud, topic: str, attributes: Mapping[str, str], data: bytes) -> None:
    """Publish one message.

    Raises:
        CommandError: Pub/Sub has not confirmed it.
    """
    # gcloud takes the data on its command line, where a large body does not fit. This variable
    # sets another address of the API for gcloud, so it is used here, too.
    base = os.environ.get(
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB", "https://pubsub.googleapis.com/"
    )
    message = {"data": base64.b64encode(data).decode(), "attributes": dict(attributes)}
    try:
        response = requests.post(
            f"{base}v1/{topic}:publish",
            json={"messages": [message]},
            headers={"Authorization": f"Bearer {gcloud.token('access')}"},
            timeout=_HTTP_SECONDS,
        )
    except OSError as error:
        raise CommandError(f"Pub/Sub cannot be reached: {type(error).__name__}") from error
    if response.status_code != 200:
        raise CommandError(f"Pub/Sub answers {response.status_code}: {response.text[:300]}")
