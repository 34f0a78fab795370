"""Sends a webhook as Svix does: signed, with Svix's headers."""

import time
from datetime import UTC, datetime

import requests
from svix.webhooks import Webhook

HTTP_SECONDS = 15.0


def send_signed(url: str, secret: str, event_id: str, body: str) -> requests.Response:
    """Sign an event, post it, and return the answer.

    Raises:
        OSError: there was none.
    """
    now = datetime.fromtimestamp(int(time.time()), UTC)
    headers = {
        "svix-id": event_id,
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": Webhook(secret).sign(event_id, now, body),
        "Content-Type": "application/json",
    }
    return requests.post(
        url, data=body.encode(), headers=headers, timeout=HTTP_SECONDS, allow_redirects=False
    )


def message_of(response: requests.Response) -> str:
    """What a refusal says, for people."""
    try:
        return str(response.json()["message"])
    except (ValueError, LookupError, TypeError):
        return response.text[:200]
