"""The Pub/Sub message of an event, as `receive` writes it and `resolve` reads it.

The data of the message is the body of the event, byte for byte. A body that is too large for a
message is stored first; the message then has no data and names the stored object instead.
"""

import re
from collections.abc import Mapping
from datetime import datetime

# Attributes
EVENT_ID = "svix-id"
TIMESTAMP = "svix-timestamp"  # of the sender's attempt, in unix seconds
RECEIVED_AT = "received-at"  # RFC 3339, UTC; differs between two deliveries of the same event
PAYLOAD = "payload"  # the object that holds the body

MAX_DATA_BYTES = 9_495_904  # of the 10 MB that a request to Pub/Sub may have, with the attributes

_EVENT_ID_FORM = re.compile(r"[A-Za-z0-9_-]{1,256}")


def is_event_id(text: str) -> bool:
    """Whether the text has the form of an event's id, which becomes part of object names."""
    return _EVENT_ID_FORM.fullmatch(text) is not None


def event_id_of(attributes: Mapping[str, str], message_id: str) -> str:
    """The id of a message's event. A message that was published by hand has only its own id."""
    return attributes.get(EVENT_ID, message_id)


def write_attributes(
    event_id: str, timestamp: str, received_at: datetime, payload: str | None
) -> dict[str, str]:
    """The attributes of a message. `received_at` must be in UTC."""
    attributes = {
        EVENT_ID: event_id,
        TIMESTAMP: timestamp,
        RECEIVED_AT: received_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    if payload is not None:
        attributes[PAYLOAD] = payload
    return attributes
