"""Deliveries: one Pub/Sub push request each, read from its envelope.

The form is https://cloud.google.com/pubsub/docs/push#receive_push; Eventarc's binary CloudEvents
carry the same JSON.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any

from items import NotJsonError, read_json
from storage import payload_name

# Pub/Sub adds it when it forwards a message to the dead-letter topic.
_DEAD_LETTER_SOURCE = "CloudPubSubDeadLetterSourceSubscription"

_EVENT_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")


class EnvelopeError(ValueError):
    """The request is not a push envelope that `receive` could have caused; the text says why."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt of Pub/Sub to hand over one event.

    `body` is None where it was too large for a message: it is in storage then. `attempt` counts
    from 1 and is None where the subscription has no dead-letter policy (Google's emulator never
    tells it). `received_at` tells one delivery by the sender from the next. `redriven` is true of a
    message that comes back from the dead letters.
    """

    event_id: str
    received_at: str
    attempt: int | None
    body: bytes | None = field(repr=False)
    redriven: bool


def read_delivery(request_body: bytes) -> Delivery:
    """The delivery in a push request.

    A message that was published by hand, without our attributes, counts as an event under its
    message id.

    Raises:
        EnvelopeError: it is no push envelope, or names a payload that is not its own.
    """
    try:
        envelope = read_json(request_body)
    except NotJsonError as error:
        raise EnvelopeError(f"the body is {error}") from error
    message = _field(envelope, "message", dict)
    attributes = _field(message, "attributes", dict, default={})
    message_id = _field(message, "messageId", str)
    event_id = _field(attributes, "svix-id", str, default=message_id)
    if not _EVENT_ID.fullmatch(event_id):
        raise EnvelopeError("the event id is malformed")
    return Delivery(
        event_id=event_id,
        received_at=_field(
            attributes, "received-at", str, default=_field(message, "publishTime", str, default="")
        ),
        attempt=_field(envelope, "deliveryAttempt", int, default=None),
        body=_body(message, attributes, event_id),
        redriven=_DEAD_LETTER_SOURCE in attributes,
    )


def _body(message: dict[str, Any], attributes: dict[str, Any], event_id: str) -> bytes | None:
    stored_payload = _field(attributes, "payload", str, default=None)
    if stored_payload is not None:
        if stored_payload != payload_name(event_id):
            raise EnvelopeError("the payload attribute names an object of something else")
        return None
    try:
        return base64.b64decode(_field(message, "data", str, default=""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError(f"message.data is not base64: {error}") from error


def _field(of: Any, name: str, kind: type, default: Any = ...) -> Any:
    if not isinstance(of, dict):
        raise EnvelopeError("the body is not a Pub/Sub push envelope")
    value = of.get(name, default)
    if value is ...:
        raise EnvelopeError(f"the body is not a Pub/Sub push envelope: it has no {name}")
    if value is not default and not (isinstance(value, kind) and not isinstance(value, bool)):
        raise EnvelopeError(f"{name} is not of the form that Pub/Sub gives it")
    return value
