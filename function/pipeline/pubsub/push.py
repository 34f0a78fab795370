"""Reads a Pub/Sub push request: one attempt of Pub/Sub to deliver one message.

The format is https://cloud.google.com/pubsub/docs/push#receive_push; Eventarc's binary CloudEvents
have the same JSON as their body. It is the JSON form of a protocol buffer
(https://protobuf.dev/programming-guides/json), of which emulators and people write more variants
than Pub/Sub itself: what is absent may be null, a name may be written in snake_case, a number as
text, and base64 in either alphabet, with or without padding.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.json_text import NotJsonError, read_json, without_byte_order_mark

_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")


class EnvelopeError(ValueError):
    """The request is not a push envelope that the function expects; the text is why."""


@dataclass(frozen=True, slots=True)
class PushRequest:
    """One attempt of Pub/Sub to deliver one message.

    `attempt` counts from 1 and is None where the subscription has no dead-letter policy, and always
    with Google's emulator; it may fall back to 1. `published_at` is empty where it is absent.
    """

    message_id: str
    published_at: str
    attempt: int | None
    attributes: Mapping[str, Any]
    encoded_data: str = field(repr=False)

    def attribute(self, name: str) -> str:
        """An attribute; empty where it is absent.

        Raises:
            EnvelopeError: it is not a text.
        """
        return _text(self.attributes, name)

    def data(self) -> bytes:
        """The data of the message.

        Raises:
            EnvelopeError: it is not base64.
        """
        encoded = self.encoded_data.rstrip("=")
        try:
            standard = encoded.encode("ascii").translate(_STANDARD_ALPHABET)
            return base64.b64decode(standard + b"=" * (-len(standard) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise EnvelopeError(f"message.data is not base64: {error}") from error


def read_push_request(body: bytes) -> PushRequest:
    """The message in the body of a push request.

    Raises:
        EnvelopeError: it is not a push envelope.
    """
    try:
        envelope = read_json(without_byte_order_mark(body))
    except NotJsonError as error:
        raise EnvelopeError(f"the body is {error}") from error
    message = _object(envelope, "message")
    if message is None:
        raise EnvelopeError("the body is not a Pub/Sub push envelope: it has no message")
    message_id = _text(message, "messageId", "message_id")
    if not message_id:
        raise EnvelopeError("the body is not a Pub/Sub push envelope: it has no messageId")
    return PushRequest(
        message_id=message_id,
        published_at=_text(message, "publishTime", "publish_time"),
        attempt=_number(envelope, "deliveryAttempt", "delivery_attempt"),
        attributes=_object(message, "attributes") or {},
        encoded_data=_text(message, "data"),
    )


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
