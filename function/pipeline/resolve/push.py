"""Reads a delivery: one attempt of Pub/Sub to deliver one event, as `receive` has published it."""

from dataclasses import dataclass, field

from pipeline import message as message_format
from pipeline.layout import payload_name
from pipeline.pubsub.push import EnvelopeError, PushRequest, read_push_request
from pipeline.store.receipts import DeliveryId

# Pub/Sub adds these to a message that it forwards to the dead-letter topic.
_DEAD_LETTER_SOURCE = "CloudPubSubDeadLetterSourceSubscription"
_FIRST_PUBLISH_TIME = "CloudPubSubDeadLetterSourceTopicPublishTime"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt of Pub/Sub to deliver one event.

    `body` is None where it was too large for a message: it is in storage then. `attempt` is that of
    `PushRequest`. `delivery_id` distinguishes the sender's deliveries. `redriven`: the message
    comes from the dead letters.
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
    pushed = read_push_request(request_body)
    event_id = message_format.event_id_of(pushed.attributes, pushed.message_id)
    if not (isinstance(event_id, str) and message_format.is_event_id(event_id)):
        raise EnvelopeError("the event id is malformed")
    published_at = pushed.attribute(_FIRST_PUBLISH_TIME) or pushed.published_at
    received_at = pushed.attribute(message_format.RECEIVED_AT) or published_at
    return Delivery(
        event_id=event_id,
        delivery_id=DeliveryId(received_at, pushed.message_id),
        attempt=pushed.attempt,
        body=_body(pushed, event_id),
        redriven=_DEAD_LETTER_SOURCE in pushed.attributes,
    )


def _body(pushed: PushRequest, event_id: str) -> bytes | None:
    payload = pushed.attribute(message_format.PAYLOAD)
    if not payload:
        return pushed.data()
    if payload != payload_name(event_id):
        raise EnvelopeError("the payload attribute names the object of another event")
    return None
