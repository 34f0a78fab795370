"""The items topic, or its absence."""

from pipeline.items_topic.errors import ItemsTopicError
from pipeline.items_topic.item_message import describe
from pipeline.items_topic.settings import ItemsTopicSettings
from pipeline.store.items import Item

__all__ = ["ItemsTopic", "ItemsTopicError"]


class ItemsTopic:
    """Publishes items. Without settings there is no topic, and nothing is published.

    Connects to nothing before the first item. Safe to share between threads.
    """

    def __init__(self, settings: ItemsTopicSettings | None) -> None:
        self._publisher = None
        if settings:
            # Imported only where it is used: the library takes 0.2 s.
            from pipeline.items_topic.publisher import ConfirmedPublisher  # noqa: PLC0415

            self._publisher = ConfirmedPublisher(settings)

    @property
    def exists(self) -> bool:
        """Whether items are published."""
        return self._publisher is not None

    def publish(self, item: Item, event_id: str | None = None) -> None:
        """Publish an item, which `event_id` has announced; return once that is confirmed.

        Raises:
            ItemsTopicError: it is not confirmed, although it may have been published.
        """
        if self._publisher:
            message = describe(item, event_id)
            self._publisher.publish(message.data(), message.attributes())
