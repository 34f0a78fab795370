"""Names of stored objects. The ids must have been checked: they become part of a path."""

ITEMS = "items"
RECEIPTS = "events"


def item_name(item_id: str) -> str:
    """The item, as the API returns it."""
    return f"{ITEMS}/{item_id}.json"


def receipt_name(event_id: str) -> str:
    """The receipt of an event."""
    return f"{RECEIPTS}/{event_id}.json"


def payload_name(event_id: str) -> str:
    """The body of an event that is too large for a Pub/Sub message."""
    return f"payloads/{event_id}"
