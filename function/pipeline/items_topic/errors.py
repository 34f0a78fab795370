"""The error of the items topic."""

from pipeline.store.states import ITEMS_TOPIC


class ItemsTopicError(Exception):
    """Pub/Sub did not confirm an item, although it may have stored it. The text is its state."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{ITEMS_TOPIC} {reason}")
