"""Names of stored objects. The ids must have been checked: they become part of a path."""

import hashlib

ITEMS = "items"
RECEIPTS = "events"
CHECKPOINTS = "reconcile"
PHOTOS = "photos"

# A file name has 255 bytes at most, and a file that is being written has a longer name.
_MAX_ID_CHARACTERS = 200


def item_name(item_id: str) -> str:
    """The item, as the API returns it."""
    return f"{ITEMS}/{item_id}.json"


def receipt_name(event_id: str) -> str:
    """The receipt of an event."""
    return f"{RECEIPTS}/{_shortened(event_id)}.json"


def payload_name(event_id: str) -> str:
    """The body of an event that is too large for a Pub/Sub message."""
    return f"payloads/{_shortened(event_id)}"


def photo_name(item_id: str, name: str) -> str:
    """A photo of an item; `name` is that of `pipeline.archive.photos.Photo`."""
    return f"{PHOTOS}/{item_id}/{name}"


def checkpoint_name(window: str) -> str:
    """How far the reconcile of a window is."""
    return f"{CHECKPOINTS}/{window}.json"


def _shortened(event_id: str) -> str:
    """The id, or for a long one its beginning and its hash."""
    if len(event_id) <= _MAX_ID_CHARACTERS:
        return event_id
    return f"{event_id[:100]}-{hashlib.sha256(event_id.encode()).hexdigest()}"
