"""Reads a Pub/Sub push request: one attempt of Pub/Sub to deliver one event.

The format is https://cloud.google.com/pubsub/docs/push#receive_push; Eventarc's binary CloudEvents
have the same JSON as their body. It is the JSON form of a protocol buffer
(https://protobuf.dev/programming-guides/json), of which emulators and people write more variants
than Pub/Sub itself: what is absent may be null, a name may be written in snake_case, a number as
text, and base64 in either alphabet, with or without padding.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any

from pipeline import message as message_format
from pipeline.json_text import NotJsonError, read_json, without_byte_order_mark
from pipeline.layout import payload_name
from pipeline.store.receipts import DeliveryId

# Pub/Sub adds these to a message that it forwards to the dead-letter topic.
_DEAD_LETTER_SOURCE = "CloudPubSubDeadLetterSourceSubscription"
_FIRST_PUBLISH_TIME = "CloudPubSubDeadLetterSourceTopicPublishTime"

_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")


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
        envelope = read_json(without_byte_order_mark(request_body))
    except NotJsonError as error:
        raise EnvelopeError(f"the body is {error}") from error
    message = _object(envelope, "message")
    if message is None:
        raise EnvelopeError("the body is not a Pub/Sub push envelope: it has no message")
    attributes = _object(message, "attributes") or {}
    message_id = _text(message, "messageId", "message_id")
    if not message_id:
        raise EnvelopeError("the body is not a Pub/Sub push envelope: it has no messageId")
    event_id = message_format.event_id_of(attributes, message_id)
    if not (isinstance(event_id, str) and message_format.is_event_id(event_id)):
        raise EnvelopeError("the event id is malformed")
    published_at = _text(message, "publishTime", "publish_time")
    published_at = _text(attributes, _FIRST_PUBLISH_TIME) or published_at
    received_at = _text(attributes, message_format.RECEIVED_AT) or published_at
    return Delivery(
        event_id=event_id,
        delivery_id=DeliveryId(received_at, message_id),
        attempt=_number(envelope, "deliveryAttempt", "delivery_attempt"),
        body=_body(message, attributes, event_id),
        redriven=_DEAD_LETTER_SOURCE in attributes,
    )


def _body(message: dict[str, Any], attributes: dict[str, Any], event_id: str) -> bytes | None:
    payload = _text(attributes, message_format.PAYLOAD)
    if payload:
        if payload != payload_name(event_id):
            raise EnvelopeError("the payload attribute names the object of another event")
        return None
    encoded = _text(message, "data").rstrip("=")
    try:
        standard = encoded.encode("ascii").translate(_STANDARD_ALPHABET)
        return base64.b64decode(standard + b"=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError(f"message.data is not base64: {error}") from error


def _member(container: Any, *names: str) -> Any:
    """The member with one of these names; None where it is absent or null."""
    if not isinstance(container, dict):
        raise EnvelopeError("the body is not a Pub/Sub push envelope")
    return next((container[name] for name in names if container.get(name) is not None), None)


def _object(container: Any, name: str) -> dict[str, Any] | None:
    value = _member(container, name)
    if value is not None and not isinstance(value, dict):
        raise _wrong_type(name)
    return value


def _text(container: Any, *names: str) -> str:
    """A text; empty where it is absent, as protocol buffers have it."""
    value = _member(container, *names)
    if value is not None and not isinstance(value, str):
        raise _wrong_type(names[0])
    return value or ""


def _number(container: Any, *names: str) -> int | None:
    value = _member(container, *names)
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong_type(names[0])


def _wrong_type(name: str) -> EnvelopeError:
    return EnvelopeError(f"{name} does not have the type that Pub/Sub gives it")
