"""Reads a Pub/Sub push request: one attempt of Pub/Sub to deliver one event.

The format is https://cloud.google.com/pubsub/docs/push#receive_push; Eventarc's binary CloudEvents
have the same JSON as their body.
"""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from pipeline import message as message_format
from pipeline.json_text import NotJsonError, read_json
from pipeline.layout import payload_name
from pipeline.store.receipts import DeliveryId

# Pub/Sub adds these to a message that it forwards to the dead-letter topic.
_DEAD_LETTER_SOURCE = "CloudPubSubDeadLetterSourceSubscription"
_FIRST_PUBLISH_TIME = "CloudPubSubDeadLetterSourceTopicPublishTime"


class EnvelopeError(ValueError):
    """The request is not a push envelope that `receive` could have caused; the text is why."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt of Pub/Sub to deliver one event.

    `body` is None where it was too large for a message: it is in storage then. `attempt` counts
    from 1 and is None where the subscription has no dead-letter policy, and always with Google's
    emulator; it may fall back to 1. `delivery_id` distinguishes the sender's deliveries.
    `redriven`: the message comes from the dead letters.
    """

    event_id: str
    delivery_id: DeliveryId
    attempt: int | None
    body: bytes | None = field(repr=False)
    redriven: bool


def read_delivery(request_body: bytes) -> Delivery:
    """The delivery in a push request.

    A message that was published by hand has none of our attributes; its message id becomes the
    event's id.

    Raises:
        EnvelopeError: it is not a push envelope, or names the payload of another event.
    """
    try:
        envelope = read_json(request_body)
    except NotJsonError as error:
        raise EnvelopeError(f"the body is {error}") from error
    message = _field(envelope, "message", dict)
    attributes = _field(message, "attributes", dict, default={})
    message_id = _field(message, "messageId", str)
    event_id = message_format.event_id_of(attributes, message_id)
    if not (isinstance(event_id, str) and message_format.is_event_id(event_id)):
        raise EnvelopeError("the event id is malformed")
    published_at = _field(message, "publishTime", str, default="")
    published_at = _field(attributes, _FIRST_PUBLISH_TIME, str, default=published_at)
    received_at = _field(attributes, message_format.RECEIVED_AT, str, default=published_at)
    return Delivery(
        event_id=event_id,
        delivery_id=DeliveryId(received_at, message_id),
        attempt=_field(envelope, "deliveryAttempt", int, default=None),
        body=_body(message, attributes, event_id),
        redriven=_DEAD_LETTER_SOURCE in attributes,
    )


def _body(message: dict[str, Any], attributes: dict[str, Any], event_id: str) -> bytes | None:
    payload = _field(attributes, message_format.PAYLOAD, str, default=None)
    if payload is not None:
        if payload != payload_name(event_id):
            raise EnvelopeError("the payload attribute names the object of another event")
        return None
    try:
        return base64.b64decode(_field(message, "data", str, default=""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError(f"message.data is not base64: {error}") from error


def _field(container: Any, name: str, kind: type, default: Any = ...) -> Any:
    if not isinstance(container, dict):
        raise EnvelopeError("the body is not a Pub/Sub push envelope")
    value = container.get(name, default)
    if value is ...:
        raise EnvelopeError(f"the body is not a Pub/Sub push envelope: it has no {name}")
    if value is not default and not (isinstance(value, kind) and not isinstance(value, bool)):
        raise EnvelopeError(f"{name} does not have the type that Pub/Sub gives it")
    return value
