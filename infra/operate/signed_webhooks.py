"""Sends a webhook as Svix does: signed, with Svix's headers."""

import secrets
import time
from datetime import UTC, datetime

import requests
from svix.webhooks import Webhook

HTTP_SECONDS = 15.0
_PREFIXES = {"make doctor": "msg_doctor", "make send": "msg_send"}


def new_event_id(command: str) -> str:
    """The id of an event that this command sends."""
    return f"{_PREFIXES[command]}{secrets.token_hex(8)}"


def sender_of(event_id: str) -> str:
    """The command that has sent an event; empty for one of Svix."""
    return next((name for name, each in _PREFIXES.items() if event_id.startswith(each)), "")


def name_of_event(event_id: str) -> str:
    """The id of an event and, if it is none of Svix, the command that has sent it."""
    sender = sender_of(event_id)
    return f"{event_id} (sent by {sender})" if sender else event_id


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
