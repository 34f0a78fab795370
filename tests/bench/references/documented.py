"""A receiver that combines the examples in the documentation of Svix and of Pub/Sub."""

import functools
import os

import flask
from google.cloud import pubsub_v1  # type: ignore[import-untyped]
from svix.webhooks import Webhook, WebhookVerificationError


@functools.cache
def _publisher() -> pubsub_v1.PublisherClient:
    return pubsub_v1.PublisherClient()  # not before the server has forked


def documented(request: flask.Request) -> tuple[str, int]:
    """Verify, publish with the client's defaults, wait for the confirmation."""
    body = request.get_data()
    try:
        Webhook(os.environ["SIGNING_SECRETS"]).verify(body, dict(request.headers))
    except WebhookVerificationError:
        return "no valid signature", 401
    _publisher().publish(os.environ["EVENTS_TOPIC"], body).result()
    return "", 204
